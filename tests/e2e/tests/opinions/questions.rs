//! What both are asked, in this order, and what is known of the differences.

use serde_json::{Value, json};

/// Who answers as Proxmox does. Where it is fakepve alone, pve-sim is mended instead.
#[derive(Debug, Clone, Copy)]
pub enum Right {
    Sim,
    /// Both answers are Proxmox's: it has versions, or leaves it open.
    Both,
    /// The facts do not say.
    Open,
}

impl Right {
    pub fn word(self) -> &'static str {
        match self {
            Self::Sim => "pve-sim",
            Self::Both => "both",
            Self::Open => "open",
        }
    }
}

pub struct Question {
    pub what: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub params: Vec<(&'static str, &'static str)>,
    /// Keys whose values are compared; none = keys and types of all.
    pub show: &'static [&'static str],
    pub token: Option<&'static str>,
    pub body: bool,
    pub verdict: Option<(Right, &'static str)>,
}

pub enum Step {
    Ask(Question),
    /// A lasting state of pve-sim.
    Sim(Value),
    /// A scenario of fakepve.
    Fake(&'static str, Value, Value),
}

fn ask(what: &'static str, method: &'static str, path: &'static str) -> Question {
    Question { what, method, path, params: Vec::new(), show: &[], token: None, body: false, verdict: None }
}

impl Question {
    fn with(self, params: &[(&'static str, &'static str)]) -> Self {
        Self { params: params.to_vec(), ..self }
    }

    fn show(self, show: &'static [&'static str]) -> Self {
        Self { show, ..self }
    }

    fn by(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    fn in_body(self) -> Self {
        Self { body: true, ..self }
    }

    /// The answers differ, and this is why.
    fn differs(self, right: Right, why: &'static str) -> Self {
        Self { verdict: Some((right, why)), ..self }
    }
}

const ONE: &str = "/nodes/pve1/qemu/200/config";
const SET: &str = "/nodes/pve1/qemu/200/firewall/ipset/ipfilter-net0";

pub fn steps() -> Vec<Step> {
    [looks(), clones(), configuration(), disks(), firewall(), power(), elsewhere(), faults(), end()]
        .into_iter()
        .flatten()
        .collect()
}

fn asked(questions: Vec<Question>) -> Vec<Step> {
    questions.into_iter().map(Step::Ask).collect()
}

fn looks() -> Vec<Step> {
    asked(vec![
        ask("version", "GET", "/version"),
        ask("a wrong secret", "GET", "/version").by("wharf@pve!wharf=22222222-2222-3333-4444-555555555555").differs(Right::Open, "§1.1: a 401 is delayed by 3 s and its body may be plain text. It gives no wording; the host goes by the status alone."),
        ask("an unknown token", "GET", "/version").by("other@pve!wharf=11111111-2222-3333-4444-555555555555").differs(Right::Open, "As above."),
        ask("own permissions", "GET", "/access/permissions"),
        ask("nodes", "GET", "/nodes"),
        ask("cluster status", "GET", "/cluster/status"),
        ask("VMs of the cluster", "GET", "/cluster/resources").with(&[("type", "vm")]),
        ask("nodes as resources", "GET", "/cluster/resources").with(&[("type", "node")]),
        ask("storages as resources", "GET", "/cluster/resources").with(&[("type", "storage")]),
        ask("storages of a node that take images", "GET", "/nodes/pve1/storage").with(&[("content", "images")]),
        ask("volumes of a template", "GET", "/nodes/pve1/storage/local-lvm/content").with(&[("vmid", "9000")]),
        ask("content of an unknown storage", "GET", "/nodes/pve1/storage/none/content"),
        ask("a node's state", "GET", "/nodes/pve1/status"),
        ask("next free number", "GET", "/cluster/nextid"),
        ask("whether a taken number is free", "GET", "/cluster/nextid").with(&[("vmid", "9000")]),
        ask("whether a free number is free", "GET", "/cluster/nextid").with(&[("vmid", "200")]),
        ask("the cluster's firewall", "GET", "/cluster/firewall/options").differs(Right::Both, "Only what an admin has set is shown. pve-sim begins with it switched on, fakepve with nothing set."),
        ask("a template's configuration", "GET", "/nodes/pve1/qemu/9000/config"),
        ask("a template's disk", "GET", "/nodes/pve1/qemu/9000/config").show(&["scsi0", "ide2", "boot", "template"]),
        ask("a VM on a node that it is not on", "GET", "/nodes/pve2/qemu/9000/config"),
        ask("status of a VM that is not there", "GET", "/nodes/pve1/qemu/777/status/current"),
        ask("a VM of an unknown node", "GET", "/nodes/pve9/qemu/9000/config").differs(Right::Sim, "§1.1: requests for another node are proxied, so a name that does not resolve fails before any VM is looked for. fakepve says it too, but only at its generic methods."),
        ask("a method that is not there", "POST", "/version").differs(Right::Open, "§1.1: 501 for an unknown method or path. Both do; how the path is spelt in it is not given, and nothing reads it."),
        ask("a path that is not there", "GET", "/nodes/pve1/qemu/9000/nothing").differs(Right::Sim, "§1.1: 501 for an unknown method or path, which is also what an old node says to a new endpoint."),
    ])
}

fn clones() -> Vec<Step> {
    let clone = "/nodes/pve1/qemu/9000/clone";
    asked(vec![
        ask("a clone without number", "POST", clone),
        ask("a clone with a taken number", "POST", clone).with(&[("newid", "9001")]),
        ask("a clone with a number taken on another node", "POST", clone).with(&[("newid", "9002")]).differs(
            Right::Sim,
            "§1.3 Clone: only the local node is checked early; a clash on another node appears in the task.",
        ),
        ask("a linked clone to a storage", "POST", clone).with(&[("newid", "200"), ("storage", "nfs")]),
        ask("a linked clone in a format", "POST", clone).with(&[("newid", "200"), ("format", "raw")]),
        ask("a clone to a node that is not there", "POST", clone).with(&[("newid", "200"), ("target", "pve9")]),
        ask("a full clone to a storage that is not there", "POST", clone).with(&[
            ("newid", "200"),
            ("full", "1"),
            ("storage", "none"),
        ]),
        ask("a clone with a name that is none", "POST", clone).with(&[("newid", "200"), ("name", "under_score")]),
        ask("a linked clone", "POST", clone).with(&[("newid", "200"), ("name", "one"), ("description", "ours")]),
        ask("its configuration", "GET", ONE),
        ask("its name and description", "GET", ONE).show(&["name", "description", "lock", "template"]),
        ask("its disk", "GET", ONE).show(&["scsi0"]),
        ask("its cloud-init drive", "GET", ONE)
            .show(&["ide2"])
            .differs(Right::Sim, "§5: fakepve does not rename the cloud-init drive on a clone."),
        ask("a full clone to a shared storage", "POST", clone).with(&[
            ("newid", "201"),
            ("name", "two"),
            ("full", "1"),
            ("storage", "nfs"),
            ("format", "qcow2"),
        ]),
        ask("its disk there", "GET", "/nodes/pve1/qemu/201/config").show(&["scsi0"]),
        ask("tasks of the template", "GET", "/nodes/pve1/tasks").with(&[
            ("vmid", "9000"),
            ("typefilter", "qmclone"),
            ("source", "all"),
        ]),
        ask("tasks of another kind", "GET", "/nodes/pve1/tasks").with(&[
            ("vmid", "9000"),
            ("typefilter", "vzdump"),
            ("source", "all"),
        ]),
        ask(
            "a task that is not there",
            "GET",
            "/nodes/pve1/tasks/UPID:pve1:00000001:00000001:00000001:qmstart:1:a@b!c:/status",
        )
        .differs(Right::Sim, "§1.3 Tasks: 400 `no such task`."),
    ])
}

fn configuration() -> Vec<Step> {
    asked(vec![
        ask("a change of nothing", "PUT", ONE).differs(Right::Sim, "§1.3 Config: `no options specified`."),
        ask("an unknown key", "PUT", ONE).with(&[("colour", "red")]),
        ask("a key without name", "PUT", ONE)
            .with(&[("", "red")])
            .differs(Right::Sim, "§0.2: an empty name becomes `_root` (JSONSchema.pm:1154)."),
        ask("a VLAN of 0", "PUT", ONE).with(&[("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=0")]),
        ask("an address without prefix", "PUT", ONE).with(&[("ipconfig0", "ip=192.0.2.10")]),
        ask("cores as text", "PUT", ONE).with(&[("cores", "two")]),
        ask("another digest", "PUT", ONE)
            .with(&[("cores", "2"), ("digest", "0000000000000000000000000000000000000000")]),
        ask("CPU, RAM, network, cloud-init", "PUT", ONE).with(&[
            ("cores", "2"),
            ("memory", "1024"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,rate=12.5,tag=7"),
            ("ipconfig0", "ip=192.0.2.10/24,gw=192.0.2.1"),
            ("ciuser", "admin"),
            ("ciupgrade", "0"),
        ]),
        ask("what was written", "GET", ONE)
            .show(&["cores", "memory", "net0", "ipconfig0", "ciuser", "ciupgrade"])
            .differs(Right::Both, "§1.1: numbers come as string or number at will; the host reads both."),
        ask("a password for cloud-init", "PUT", ONE).with(&[("cipassword", "correct horse")]),
        ask("the password, read back", "GET", ONE)
            .show(&["cipassword"])
            .differs(Right::Sim, "§1.3 Config: `cipassword` reads back masked. fakepve shows it (§5)."),
        ask("a change as a task", "POST", ONE).with(&[("onboot", "1"), ("tags", "wharf")]),
        ask("what the task wrote", "GET", ONE).show(&["onboot", "tags"]).differs(Right::Both, "As above."),
        ask("a network card without MAC", "PUT", ONE).with(&[("net1", "virtio,bridge=vmbr0")]),
        ask("the card gets a MAC", "GET", ONE).show(&["net1"]).differs(
            Right::Sim,
            "§1.3 net0: without a MAC a new one is made. fakepve does that at create and clone only.",
        ),
        ask("a key that is taken out", "PUT", ONE).with(&[("delete", "net1")]),
        ask("it is out", "GET", ONE).show(&["net1"]),
    ])
}

fn disks() -> Vec<Step> {
    asked(vec![
        ask("a new disk of 10 GiB", "PUT", ONE).with(&[("scsi1", "local-lvm:10")]),
        ask("the new disk", "GET", ONE)
            .show(&["scsi1"])
            .differs(Right::Sim, "§1.3 Config: `store:10` allocates. fakepve stores it as it stands (§5)."),
        ask("limits on a disk", "PUT", ONE).with(&[("scsi0", "local-lvm:vm-200-disk-0,mbps_rd=50,size=3G")]),
        ask("the limits", "GET", ONE).show(&["scsi0"]),
        ask("a volume that is not there", "PUT", ONE)
            .with(&[("scsi2", "local-lvm:vm-200-disk-9")])
            .differs(Right::Sim, "§5: fakepve keeps drive strings literally and looks for no volume."),
        ask("a disk on a storage that is not there", "PUT", ONE)
            .with(&[("scsi3", "none:10")])
            .differs(Right::Sim, "As above."),
        ask("a larger system disk", "PUT", "/nodes/pve1/qemu/200/resize").with(&[("disk", "scsi0"), ("size", "20G")]),
        ask("its size", "GET", ONE)
            .show(&["scsi0"])
            .differs(Right::Sim, "§5: fakepve's resize is generic: a task that changes nothing."),
        ask("a smaller system disk", "PUT", "/nodes/pve1/qemu/200/resize")
            .with(&[("disk", "scsi0"), ("size", "5G")])
            .differs(
                Right::Sim,
                "§1.3 Resize: the task ends with `shrinking disks is not supported`. fakepve accepts it (§5).",
            ),
        ask("resizing a disk that is not there", "PUT", "/nodes/pve1/qemu/200/resize")
            .with(&[("disk", "scsi9"), ("size", "5G")])
            .differs(Right::Sim, "§1.3 Resize: `disk 'x' does not exist`, in the task."),
        ask("taking a disk off", "PUT", ONE).with(&[("delete", "scsi1")]),
        ask("where the disk is then", "GET", ONE)
            .show(&["scsi1", "unused0"])
            .differs(Right::Sim, "§1.3 Detach: without force a disk becomes `unusedN`. fakepve leaves none (§5)."),
        ask("taking what was unused away", "PUT", ONE).with(&[("delete", "unused0")]),
        ask("the volumes that are left", "GET", "/nodes/pve1/storage/local-lvm/content")
            .with(&[("vmid", "200"), ("content", "images")])
            .show(&["volid"])
            .differs(
                Right::Sim,
                "§5: fakepve lists volumes that its drive strings name, whether they are there or not.",
            ),
    ])
}

fn firewall() -> Vec<Step> {
    let options = "/nodes/pve1/qemu/200/firewall/options";
    let sets = "/nodes/pve1/qemu/200/firewall/ipset";
    asked(vec![
        ask("firewall options", "GET", options),
        ask("other firewall options", "PUT", options).with(&[
            ("enable", "1"),
            ("ipfilter", "1"),
            ("macfilter", "1"),
            ("policy_in", "ACCEPT"),
        ]),
        ask("the options then", "GET", options).show(&["enable", "ipfilter", "macfilter", "policy_in"]),
        ask("an unknown firewall option", "PUT", options).with(&[("colour", "red")]),
        ask("an IP set", "POST", sets).with(&[("name", "ipfilter-net0")]),
        ask("the same set again", "POST", sets).with(&[("name", "ipfilter-net0")]),
        ask("the sets", "GET", sets).show(&["name"]),
        ask("an address", "POST", SET).with(&[("cidr", "192.0.2.10")]),
        ask("the same address again", "POST", SET).with(&[("cidr", "192.0.2.10")]),
        ask("an address with /32", "POST", SET).with(&[("cidr", "192.0.2.11/32")]),
        ask("an IPv6 address spelt in full", "POST", SET).with(&[("cidr", "2001:0db8:0:0:0:0:0:10")]),
        ask("an address that is none", "POST", SET).with(&[("cidr", "192.0.2.300")]),
        ask("the addresses", "GET", SET).show(&["cidr"]).differs(
            Right::Sim,
            "§1.3 FW ipset: `/32` is normalised away and IPv6 compressed. fakepve does the first only.",
        ),
        ask("an address of a set that is not there", "POST", "/nodes/pve1/qemu/200/firewall/ipset/none")
            .with(&[("cidr", "192.0.2.1")]),
        ask("taking an address out", "DELETE", "/nodes/pve1/qemu/200/firewall/ipset/ipfilter-net0/192.0.2.11"),
        ask("taking it out again", "DELETE", "/nodes/pve1/qemu/200/firewall/ipset/ipfilter-net0/192.0.2.11"),
        ask("the addresses then", "GET", SET).show(&["cidr"]).differs(Right::Sim, "As above."),
    ])
}

fn power() -> Vec<Step> {
    let at = |action: &'static str| match action {
        "start" => "/nodes/pve1/qemu/200/status/start",
        "stop" => "/nodes/pve1/qemu/200/status/stop",
        _ => "/nodes/pve1/qemu/200/status/shutdown",
    };
    asked(vec![
        ask("status of a stopped VM", "GET", "/nodes/pve1/qemu/200/status/current"),
        ask("starting", "POST", at("start")),
        ask("starting what runs", "POST", at("start")),
        ask("starting a template", "POST", "/nodes/pve1/qemu/9000/status/start"),
        ask("status of a running VM", "GET", "/nodes/pve1/qemu/200/status/current").show(&[
            "status",
            "qmpstatus",
            "vmid",
            "name",
        ]),
        ask("more cores while it runs", "PUT", ONE).with(&[("cores", "4")]),
        ask("the configuration with what is pending", "GET", ONE).show(&["cores"]).differs(
            Right::Sim,
            "§1.3 Config: a read merges what is pending unless `current=1`. fakepve does not merge (§5).",
        ),
        ask("the configuration as it runs", "GET", ONE)
            .with(&[("current", "1")])
            .show(&["cores"])
            .differs(Right::Both, "A number here, text there: §1.1."),
        ask("a limit while it runs", "PUT", ONE)
            .with(&[("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,rate=25")]),
        ask("the limit as it runs", "GET", ONE).with(&[("current", "1")]).show(&["net0"]).differs(
            Right::Sim,
            "§0.4: `rate` and `tag` apply live. fakepve lets all but a few keys wait for the next start.",
        ),
        ask("destroying what runs", "DELETE", "/nodes/pve1/qemu/200").with(&[("purge", "1")]),
        ask("asking the guest's agent", "POST", "/nodes/pve1/qemu/200/agent/ping").differs(
            Right::Sim,
            "§1.3 Agent: `No QEMU guest agent configured`, as the configuration has none. fakepve does not look there.",
        ),
        ask("shutting down", "POST", at("shutdown")).with(&[("timeout", "60"), ("forceStop", "1")]),
        ask("shutting down what is stopped", "POST", at("shutdown"))
            .differs(Right::Sim, "§1.3 Shutdown: not running is OK. fakepve refuses (§5)."),
        ask("stopping what is stopped", "POST", at("stop")),
        ask("what was pending", "GET", ONE).with(&[("current", "1")]).show(&["cores"]).differs(Right::Open, "§0.4: what waits is applied by a restart. Whether that is at the stop, as pve-sim has it, or at the start, the notes do not say."),
    ])
}

fn elsewhere() -> Vec<Step> {
    asked(vec![
        ask("whether a VM can move", "GET", "/nodes/pve1/qemu/201/migrate").differs(Right::Sim, "§1.3 Migrate check lists `allowed_nodes` and `not_allowed_nodes`. fakepve's answer is made up from the schema (§5)."),
        ask("moving to its own node", "POST", "/nodes/pve1/qemu/201/migrate").with(&[("target", "pve1")]).differs(Right::Sim, "§1.3 Migrate: 400, the target is the local node. fakepve's migrate is generic: any task that ends well (§5)."),
        ask("moving to a node that is not there", "POST", "/nodes/pve1/qemu/201/migrate").with(&[("target", "pve9")]).differs(Right::Sim, "As above: refused, and not a task that ends well."),
        ask("a backup", "POST", "/nodes/pve1/vzdump").with(&[
            ("vmid", "201"),
            ("storage", "nfs"),
            ("mode", "snapshot"),
            ("remove", "0"),
            ("notes-template", "ours"),
        ]),
        ask("the backups", "GET", "/nodes/pve1/storage/nfs/content")
            .with(&[("content", "backup"), ("vmid", "201")])
            .show(&["vmid", "notes"]).differs(Right::Sim, "§5: no backup volume appears at fakepve."),
        ask("moving to another node", "POST", "/nodes/pve1/qemu/201/migrate").with(&[("target", "pve3")]).differs(Right::Sim, "§1.3 Migrate: the task is a `qmigrate`. fakepve names generic tasks by the path."),
        ask("its configuration on the new node", "GET", "/nodes/pve3/qemu/201/config").show(&["name"]).differs(Right::Sim, "§5: at fakepve the VM stays where it is."),
    ])
}

fn faults() -> Vec<Step> {
    let mut all = Vec::new();
    all.push(Step::Sim(json!({"lock": [200, "backup"]})));
    all.push(Step::Fake("snapshot_lock", json!([200, "backup"]), json!({})));
    all.extend(asked(vec![
        ask("a change while a backup has it", "PUT", ONE).with(&[("cores", "1")]),
        ask("starting while a backup has it", "POST", "/nodes/pve1/qemu/200/status/start"),
        ask("destroying while a backup has it", "DELETE", "/nodes/pve1/qemu/200").with(&[("purge", "1")]),
        ask("the lock in the status", "GET", "/nodes/pve1/qemu/200/status/current").show(&["lock"]),
    ]));
    all.push(Step::Sim(json!({"unlock": 200})));
    all.push(Step::Fake("unlock", json!([200]), json!({})));
    all.push(Step::Sim(json!("no-quorum")));
    all.push(Step::Fake("lose_quorum", json!([]), json!({})));
    all.extend(asked(vec![
        ask("a read without quorum", "GET", "/nodes/pve1/qemu/200/status/current").show(&["status"]),
        ask("a change without quorum", "PUT", ONE).with(&[("cores", "1")]),
        ask("a start without quorum", "POST", "/nodes/pve1/qemu/200/status/start"),
        ask("a clone without quorum", "POST", "/nodes/pve1/qemu/9000/clone").with(&[("newid", "202")]),
        ask("an address without quorum", "POST", SET).with(&[("cidr", "192.0.2.12")]).differs(Right::Sim, "§1.2: 500 `cluster not ready - no quorum?`. fakepve checks the quorum at VM actions only, though firewall files lie in the same file system."),
    ]));
    all.push(Step::Sim(json!("quorum")));
    all.push(Step::Fake("regain_quorum", json!([]), json!({})));
    all.push(Step::Sim(json!({"node-offline": "pve2"})));
    all.push(Step::Fake("set_node_offline", json!(["pve2"]), json!({})));
    all.extend(asked(vec![
        ask("a node that is offline", "GET", "/nodes/pve2/qemu/9002/config"),
        ask("the VMs of an offline node", "GET", "/cluster/resources")
            .with(&[("type", "vm")])
            .show(&["vmid", "status"]),
        ask("an offline node in the list", "GET", "/cluster/resources")
            .with(&[("type", "node")])
            .show(&["node", "status"]),
    ]));
    all.push(Step::Sim(json!({"node-online": "pve2"})));
    all.push(Step::Fake("set_node_offline", json!(["pve2", false]), json!({})));
    all
}

fn end() -> Vec<Step> {
    asked(vec![
        ask("a clone off local storage to another node", "POST", "/nodes/pve1/qemu/9000/clone")
            .with(&[("newid", "203"), ("target", "pve2")])
            .differs(
                Right::Sim,
                "§1.3 Clone: `can't clone VM to node 'x' (VM uses local storage)`. fakepve accepts it (§5).",
            ),
        ask("protecting", "PUT", ONE).with(&[("protection", "1")]),
        ask("destroying what is protected", "DELETE", "/nodes/pve1/qemu/200").with(&[("purge", "1")]),
        ask("protecting no more", "PUT", ONE).with(&[("protection", "0")]),
        ask("a DELETE with a body", "DELETE", "/nodes/pve1/qemu/777")
            .with(&[("purge", "1")])
            .in_body()
            .differs(Right::Sim, "§1.1: a body on DELETE is a 501 `Unexpected content`."),
        ask("destroying", "DELETE", "/nodes/pve1/qemu/200").with(&[("purge", "1")]),
        ask("its status then", "GET", "/nodes/pve1/qemu/200/status/current"),
        ask("destroying again", "DELETE", "/nodes/pve1/qemu/200").with(&[("purge", "1")]),
        ask("its volumes then", "GET", "/nodes/pve1/storage/local-lvm/content")
            .with(&[("vmid", "200"), ("content", "images")])
            .show(&["volid"]),
    ])
}
