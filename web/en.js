// English. Keys that end in _one and _other depend on a number, {n}.

export const en = {
    tagline: "Messages that arrive once, in order, always.",
    sign_in_title: "Sign in to Veza", sign_up_title: "Create an account", sign_in: "Sign in", sign_up: "Sign up", sign_out: "Sign out",
    no_account: "New here?", have_account: "Already have an account?", login: "Username or email", username: "Username", email: "Email",
    username_rule: "Letters, digits, _ and -", display_name: "Name that others see", optional: "optional", password: "Password",
    totp_code: "Code from your authenticator", signed_out_elsewhere: "Your session has ended. Please sign in again.",
    error_unreachable: "The server cannot be reached. Check your connection and try again.",
    error_unknown_command: "This server does not offer that yet.", error_disconnected: "The connection was lost before this was done. Please try again.",
    error_deadline_exceeded: "The server did not answer in time. Please try again.", error_unauthenticated: "The username or email, or the password, is wrong.",
    error_two_factor_required: "This account asks for a code from your authenticator.", error_conflict: "That already exists. Please choose another.",
    error_not_member: "You are not a member of this conversation.", error_muted: "You are muted here for now.", error_banned: "You are banned here.",
    error_blocked: "One of you has blocked the other.", error_read_only: "Nothing can be written here.", error_forbidden: "Your role does not allow that.",
    error_not_found: "That does not exist (any more).", error_rate_limited: "Too many messages at once. Please wait a moment.",
    error_slow_mode: "Slow mode: please wait before your next message.", error_too_large: "That is too long.", error_content_rejected: "The message was refused by the content filter.",
    error_storage_unavailable: "The server cannot store anything right now. Please try again in a moment.", error_overloaded: "The server is busy. Please try again in a moment.",
    error_internal: "The server made a mistake. Please try again.",

    conversations: "Conversations", rooms: "Rooms", direct_messages: "Direct messages", filter: "Jump to… (Ctrl K)", new_conversation: "New conversation",
    discover: "Discover rooms", mentions: "Mentions", settings: "Settings", unnamed: "Unnamed", somebody: "Somebody", you: "you",
    unread_one: "{n} new message", unread_other: "{n} new messages", mentioned_one: "{n} mention", mentioned_other: "{n} mentions",

    connecting: "Connecting…", reconnecting: "Reconnecting…", up_to_date: "Up to date", disconnected: "Not connected", reconnect: "Reconnect",
    connection_lost: "Connection lost. Reconnecting by itself…", try_now: "Try now", catching_up: "Connected. Catching up on what you missed…",
    you_are_up_to_date: "You're up to date", missed_one: "{n} missed event arrived", missed_other: "{n} missed events arrived",
    too_many_connections: "Veza is open in too many windows. Close one, or use it here.",

    hello: "Hello, {name}", pick_one: "Pick a conversation on the left, or start one.", join_room: "Join this room", back: "Back to the list",
    loading: "Loading…", loading_older: "Loading older messages…", load_older: "Show older", beginning: "This is the beginning of {name}.",
    beginning_direct: "This is the beginning of your talk with {name}.", new_messages: "New", to_end: "Newest", members_one: "{n} member", members_other: "{n} members",
    types_one: "{who} is typing…", types_other: "{who} are typing…", many_type: "Several people are typing…", seen: "Seen",

    message_placeholder: "Message {name}", reply_placeholder: "Reply in this thread", send: "Send", emoji: "Emoji", editing: "Editing: {text}", cancel: "Cancel",
    is_archived: "This conversation is archived: it can be read, not written to.", is_read_only: "Your role here is read-only.",
    is_muted: "A moderator has muted you here for now.", sending: "Sending…", retrying: "Not sent yet, trying again: {why}", try_again: "Try again", discard: "Discard",

    message_actions: "Message actions", react: "React", reply_in_thread: "Reply in thread", edit: "Edit", pin: "Pin", unpin: "Unpin", pinned: "pinned", delete: "Delete",
    copy_text: "Copy", copied: "Copied", deleted_message: "This message was deleted", edited: "(edited)", edited_at: "Edited {when}", edits_title: "Earlier versions",
    delete_title: "Delete this message?", delete_words: "Nobody will be able to read it any more.", a_thread: "a thread",
    replies_one: "{n} reply", replies_other: "{n} replies",

    panel_thread: "Thread", panel_pins: "Pinned messages", panel_details: "Details", panel_search: "Search", panel_mentions: "Mentions", close: "Close",
    pins: "Pinned messages", details: "Members and details", search: "Search", no_pins: "Nothing is pinned here yet.", no_mentions: "Nobody has mentioned you yet.",
    search_placeholder: "Words, \"a phrase\", -without, begin*", search_everywhere: "In all my conversations", search_hint: "All words must occur. Accents and case do not matter.",
    nothing_found: "Nothing found.", follow: "Follow", unfollow: "Unfollow",
    address: "Address of this room:", add_people: "Add people", invite_link: "Invitation code", invite_words: "Whoever has this code can join for seven days: they enter it under “Discover rooms”.",
    edit_room: "Edit name and description", leave: "Leave", leave_title: "Leave {name}?", leave_public: "You can join again whenever you want.", leave_private: "You will need an invitation to come back.",
    role_owner: "owner", role_admin: "admin", role_moderator: "moderator", role_member: "member", role_read_only: "read-only",
    you_were_banned: "You were banned from that conversation.", you_were_removed: "You are no longer in that conversation.", invited: "Added",

    filter_rooms: "Find a room", no_rooms: "No public rooms yet. Create the first one.", by_address: "Room address or invitation code", join: "Join", open: "Open",
    a_room: "A room", a_talk: "People", talk_words: "One person makes a direct conversation, several make a group.", room_name: "Name", description: "Description",
    private_room: "Private: only by invitation", create: "Create", find_people: "Add people by name", remove: "Remove", add: "Add", save: "Save",
    write_to: "Write a message", make_role: "Make {role}", mute_hour: "Mute for an hour", remove_member: "Remove from the conversation", ban: "Ban",

    presence: "Availability", presence_online: "Online", presence_away: "Away", presence_busy: "Busy", presence_invisible: "Invisible", presence_offline: "Offline",
    status_text: "Status", status_placeholder: "What are you up to?", theme: "Appearance", theme_system: "System", theme_light: "Light", theme_dark: "Dark",
    language: "Language", shortcuts: "Keyboard shortcuts", notifications: "Turn on notifications", notifications_on: "You will be notified of mentions and direct messages.",
    notifications_off: "The browser does not allow notifications.",
    key_switch: "Jump to a conversation", key_next: "Next or previous conversation", key_search: "Search in the conversation", key_send: "Send", key_line: "New line",
    key_edit: "Edit your last message (when nothing is typed)", key_walk: "Go through messages", key_message: "Reply, edit, pin or delete the message in focus",
    key_close: "Close, or back to writing", key_help: "This list",
};
