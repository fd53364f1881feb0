//! What was released without a doc comment, and what is said of it on the page instead.
//!
//! A released file of `wit/` is not edited, not even its comments: copies of it are in projects of authors. Nothing may be
//! added here for what is new (that has its comment in `wit/`), and an entry goes when its item gets one in a later version.

/// Item, as package, interface and name; and its remark.
pub const REMARKS: &[(&str, &str)] = &[
    ("base/log.level", "How much a line matters."),
    ("dns/provider.probed", "What `probe` found: the zone, and what can be done there."),
    (
        "dns/provider.selector",
        "What of a zone to read: everything, these names and types, or a name with everything below it.",
    ),
    ("dns/provider.edit", "What to do with the values of a name and type."),
    ("dns/provider.outcome", "What became of a change."),
    ("dns/provider.verdict", "How the provider would store a set."),
    (
        "dns/provider.read",
        "What is in the zone now, as far as it was asked for. Reads all pages; where that was not possible the answer says \
         `complete: false`, and is not taken for the whole.",
    ),
    ("dns/naming.progress", "How far the records of this service are, as the books have it; no provider is asked."),
    ("hook/events", "What a hook is told of, or asked about."),
    ("hook/events.[method]delivery.event", "What happened."),
    (
        "hook/events.[method]delivery.setting",
        "One setting as text, other types than strings as JSON; none = not set. Secrets are left out.",
    ),
    (
        "hook/events.[method]question.settings",
        "Settings of this hook, secrets left out; valid by the manifest's schema.",
    ),
    ("hook/told", "To be told of what happened, after it did."),
    ("hook/asked.verdict", "What is to become of the operation that is about to begin."),
    ("hook/asked.ask", "Asked before an operation begins, as its first step."),
    (
        "http/client.[method]outbound.header",
        "Appends a header. `{{slot}}` in the value is replaced where the manifest declares this header for the slot.",
    ),
    ("http/client.[method]outbound.body-bytes", "The last body set wins. At most 1 MiB."),
    (
        "http/client.[method]outbound.send",
        "Sends it, once, and waits for the whole answer. Every HTTP status is an answer; a failure says whether the peer may \
         have seen the request.",
    ),
    ("http/client.[method]reply.status", "The HTTP status."),
    ("http/client.[method]reply.headers", "All headers; case of their names does not matter."),
    ("http/client.[method]reply.body", "The bytes of the body."),
    ("ipam/leases.held", "What the service holds, IPv4 first, by index; empty = nothing."),
    ("panel/adapter", "What a panel adapter does: translates what a panel posted, and what the panel gets back."),
    ("provisioner/protocol.wait", "Why the operation can't go on now, and when to ask again."),
    ("provisioner/protocol.outcome", "How far the step came."),
    ("provisioner/operations", "What the host hands to each step."),
    ("provisioner/operations.[method]operation.id", "The operation's id, opaque."),
    (
        "provisioner/operations.[method]operation.remember",
        "Keeps a memo for the next steps of this operation, at most 64 KiB; it replaces the former. None forgets it.",
    ),
    ("provisioner/operations.[method]operation.state-age-ms", "Milliseconds since the state last changed."),
    ("provisioner/operations.[method]operation.vm", "The VM of the service at hand."),
    ("provisioner/provisioning", "What a provisioner does."),
    ("proxmox/vms.[method]view.presence", "Whether the VM is there, and whose it is."),
    ("proxmox/vms.[method]vm.look", "Looks now."),
    ("proxmox/vms.[method]vm.submit-start", "Switches it on."),
    ("proxmox/cluster.nodes", "All nodes of the server, those that are offline too."),
    ("storage/storages", "Looks at storages, and the removal of the service's own backups."),
    ("storage/storages.all", "A line for each storage and node."),
    (
        "storage/storages.backups",
        "Archives that carry the service's VM number, on all active storages that may hold backups; empty also when no number is reserved.",
    ),
];
