// The roles of members, and what they allow.

/** All roles, the lowest first. */
const ROLES = ["read_only", "member", "moderator", "admin", "owner"];

/** A number that grows with the role. */
export const rankOf = (role) => ROLES.indexOf(role);

export const isModerator = (role) => rankOf(role) >= rankOf("moderator");
export const isAdmin = (role) => rankOf(role) >= rankOf("admin");

/** The roles that a member with `role` can give to others. */
export const rolesBelow = (role) => ROLES.slice(0, rankOf(role));
