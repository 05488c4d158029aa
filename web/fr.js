// Français. Les clés en _one et _other dépendent d'un nombre, {n}.

export const fr = {
    tagline: "Des messages qui arrivent une fois, dans l’ordre, toujours.",
    sign_in_title: "Se connecter à Veza", sign_up_title: "Créer un compte", sign_in: "Se connecter", sign_up: "S’inscrire", sign_out: "Se déconnecter",
    no_account: "Nouveau ici ?", have_account: "Déjà un compte ?", login: "Nom d’utilisateur ou e-mail", username: "Nom d’utilisateur", email: "E-mail",
    username_rule: "Lettres, chiffres, _ et -", display_name: "Nom affiché", optional: "facultatif", password: "Mot de passe",
    totp_code: "Code de votre application d’authentification", signed_out_elsewhere: "Votre session a pris fin. Veuillez vous reconnecter.",
    error_unreachable: "Le serveur est injoignable. Vérifiez votre connexion et réessayez.",
    error_unknown_command: "Ce serveur ne le propose pas encore.", error_disconnected: "La connexion a été coupée avant la fin. Veuillez réessayer.",
    error_deadline_exceeded: "Le serveur n’a pas répondu à temps. Veuillez réessayer.", error_unauthenticated: "Le nom d’utilisateur, l’e-mail ou le mot de passe est incorrect.",
    error_two_factor_required: "Ce compte demande un code de votre application d’authentification.", error_conflict: "Cela existe déjà. Veuillez en choisir un autre.",
    error_not_member: "Vous n’êtes pas membre de cette conversation.", error_muted: "Vous êtes muet ici pour le moment.", error_banned: "Vous êtes banni ici.",
    error_blocked: "L’un de vous a bloqué l’autre.", error_read_only: "On ne peut rien écrire ici.", error_forbidden: "Votre rôle ne le permet pas.",
    error_not_found: "Cela n’existe pas (ou plus).", error_rate_limited: "Trop de messages à la fois. Veuillez patienter un instant.",
    error_slow_mode: "Mode lent : veuillez patienter avant votre prochain message.", error_too_large: "C’est trop long.", error_content_rejected: "Le message a été refusé par le filtre de contenu.",
    error_storage_unavailable: "Le serveur ne peut rien enregistrer pour l’instant. Veuillez réessayer dans un instant.", error_overloaded: "Le serveur est occupé. Veuillez réessayer dans un instant.",
    error_internal: "Le serveur a commis une erreur. Veuillez réessayer.",

    conversations: "Conversations", rooms: "Salons", direct_messages: "Messages directs", filter: "Aller à… (Ctrl K)", new_conversation: "Nouvelle conversation",
    discover: "Découvrir les salons", mentions: "Mentions", settings: "Réglages", unnamed: "Sans nom", somebody: "Quelqu’un", you: "vous",
    unread_one: "{n} nouveau message", unread_other: "{n} nouveaux messages", mentioned_one: "{n} mention", mentioned_other: "{n} mentions",

    connecting: "Connexion…", reconnecting: "Reconnexion…", up_to_date: "À jour", disconnected: "Déconnecté", reconnect: "Se reconnecter",
    connection_lost: "Connexion perdue. Reconnexion automatique…", try_now: "Essayer maintenant", catching_up: "Connecté. Récupération de ce que vous avez manqué…",
    you_are_up_to_date: "Vous êtes à jour", missed_one: "{n} événement manqué est arrivé", missed_other: "{n} événements manqués sont arrivés",
    too_many_connections: "Veza est ouvert dans trop de fenêtres. Fermez-en une, ou utilisez-le ici.",

    hello: "Bonjour, {name}", pick_one: "Choisissez une conversation à gauche, ou commencez-en une.", join_room: "Rejoindre ce salon", back: "Retour à la liste",
    loading: "Chargement…", loading_older: "Chargement des messages précédents…", load_older: "Afficher les précédents", beginning: "Voici le début de {name}.",
    beginning_direct: "Voici le début de votre conversation avec {name}.", new_messages: "Nouveau", to_end: "Récents", members_one: "{n} membre", members_other: "{n} membres",
    types_one: "{who} écrit…", types_other: "{who} écrivent…", many_type: "Plusieurs personnes écrivent…", seen: "Vu",

    message_placeholder: "Écrire à {name}", reply_placeholder: "Répondre dans ce fil", send: "Envoyer", emoji: "Emoji", editing: "Modification : {text}", cancel: "Annuler",
    is_archived: "Cette conversation est archivée : elle se lit, mais on n’y écrit plus.", is_read_only: "Ici, votre rôle est en lecture seule.",
    is_muted: "Un modérateur vous a rendu muet ici pour le moment.", sending: "Envoi…", retrying: "Pas encore envoyé, nouvel essai : {why}", try_again: "Réessayer", discard: "Abandonner",

    message_actions: "Actions sur le message", react: "Réagir", reply_in_thread: "Répondre dans un fil", edit: "Modifier", pin: "Épingler", unpin: "Désépingler", pinned: "épinglé", delete: "Supprimer",
    copy_text: "Copier", copied: "Copié", deleted_message: "Ce message a été supprimé", edited: "(modifié)", edited_at: "Modifié {when}", edits_title: "Versions précédentes",
    delete_title: "Supprimer ce message ?", delete_words: "Plus personne ne pourra le lire.", a_thread: "un fil",
    replies_one: "{n} réponse", replies_other: "{n} réponses",

    panel_thread: "Fil", panel_pins: "Messages épinglés", panel_details: "Détails", panel_search: "Recherche", panel_mentions: "Mentions", close: "Fermer",
    pins: "Messages épinglés", details: "Membres et détails", search: "Rechercher", no_pins: "Rien n’est encore épinglé ici.", no_mentions: "Personne ne vous a encore mentionné.",
    search_placeholder: "Mots, \"une phrase\", -sans, début*", search_everywhere: "Dans toutes mes conversations", search_hint: "Tous les mots doivent s’y trouver. Les accents et la casse ne comptent pas.",
    nothing_found: "Aucun résultat.", follow: "Suivre", unfollow: "Ne plus suivre",
    address: "Adresse de ce salon :", add_people: "Ajouter des personnes", invite_link: "Code d’invitation", invite_words: "Avec ce code, on peut entrer pendant sept jours : il se saisit sous « Découvrir les salons ».",
    edit_room: "Modifier le nom et la description", leave: "Quitter", leave_title: "Quitter {name} ?", leave_public: "Vous pourrez revenir quand vous voudrez.", leave_private: "Il faudra une invitation pour revenir.",
    role_owner: "propriétaire", role_admin: "admin", role_moderator: "modération", role_member: "membre", role_read_only: "lecture seule",
    you_were_banned: "Vous avez été banni de cette conversation.", you_were_removed: "Vous ne faites plus partie de cette conversation.", invited: "Ajouté",

    filter_rooms: "Chercher un salon", no_rooms: "Pas encore de salon public. Créez le premier.", by_address: "Adresse du salon ou code d’invitation", join: "Rejoindre", open: "Ouvrir",
    a_room: "Un salon", a_talk: "Des personnes", talk_words: "Avec une personne, c’est une conversation directe ; avec plusieurs, un groupe.", room_name: "Nom", description: "Description",
    private_room: "Privé : seulement sur invitation", create: "Créer", find_people: "Ajouter par nom", remove: "Retirer", add: "Ajouter", save: "Enregistrer",
    write_to: "Écrire un message", make_role: "Donner le rôle : {role}", mute_hour: "Rendre muet pour une heure", remove_member: "Retirer de la conversation", ban: "Bannir",

    presence: "Disponibilité", presence_online: "En ligne", presence_away: "Absent", presence_busy: "Occupé", presence_invisible: "Invisible", presence_offline: "Hors ligne",
    status_text: "Statut", status_placeholder: "Que faites-vous ?", theme: "Apparence", theme_system: "Système", theme_light: "Clair", theme_dark: "Sombre",
    language: "Langue", shortcuts: "Raccourcis clavier", notifications: "Activer les notifications", notifications_on: "Vous serez averti des mentions et des messages directs.",
    notifications_off: "Le navigateur n’autorise pas les notifications.",
    key_switch: "Aller à une conversation", key_next: "Conversation suivante ou précédente", key_search: "Rechercher dans la conversation", key_send: "Envoyer", key_line: "Nouvelle ligne",
    key_edit: "Modifier votre dernier message (quand rien n’est saisi)", key_walk: "Parcourir les messages", key_message: "Répondre, modifier, épingler ou supprimer le message choisi",
    key_close: "Fermer, ou revenir à l’écriture", key_help: "Cette liste",
};
