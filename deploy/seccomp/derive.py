#!/usr/bin/env python3
"""Derives veza.json from the default seccomp profile of podman (containers-common, Apache-2.0).

    deploy/seccomp/derive.py /usr/share/containers/seccomp.json > deploy/seccomp/veza.json

The result is in the form of the OCI runtime specification, which Docker, podman, containerd and CRI-O all read. The
conditions of the original are resolved for a process without capabilities on amd64 or arm64: containerd ignores
conditions, and would allow what needs a capability to everybody.
"""

import json
import sys

ADDED = ["io_uring_enter", "io_uring_register", "io_uring_setup"]
# The default leaves these to the check of capabilities. A server and its media worker need none of them.
REMOVED = {
    "add_key", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount",
    "name_to_handle_at", "open_tree", "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace",
    "reboot", "request_key", "setns", "swapoff", "swapon", "syslog", "umount", "umount2", "unshare",
}
ARCHITECTURES = {"amd64", "arm64"}


def holds(rule):
    """Whether a rule of the default applies to a process without capabilities."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    known = {"arches", "caps"}
    if set(includes) - known or set(excludes) - {"caps"}:
        sys.exit(f"derive.py does not know this condition: {includes} {excludes}. Extend holds().")
    return not includes.get("caps") and (not includes.get("arches") or ARCHITECTURES & set(includes["arches"]))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        default = json.load(file)
    calls = []
    allowed = next(rule for rule in default["syscalls"] if len(rule["names"]) > 100)
    for rule in filter(holds, default["syscalls"]):
        names = set(rule["names"]) - REMOVED | (set(ADDED) if rule is allowed else set())
        derived = {"names": sorted(names), "action": rule["action"]}
        if rule["action"] == "SCMP_ACT_ERRNO":
            derived["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            derived["args"] = rule["args"]
        if names and derived not in calls:
            calls.append(derived)
    calls.append({"names": sorted(REMOVED), "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    profile = {
        "defaultAction": default["defaultAction"],
        "defaultErrnoRet": default["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": calls,
    }
    print(json.dumps(profile, indent=2))


main()
