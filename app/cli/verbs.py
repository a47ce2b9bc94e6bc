"""Every verb of the command line: where it is implemented and what it does, in one line.

A verb's module has two functions: `NAME_arguments(parser)` declares its options, `NAME(args, context)`
does it and returns the exit code. Only the module of the verb that was called is imported.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of `inn`."""

    name: str
    module: str
    """Below app.cli."""

    group: str
    """Under which heading `inn help` lists it."""

    help: str
    """What it does, one sentence without its full stop."""

    is_hidden: bool = False
    usage_code: int = 2
    """Exit code for options that make no sense; where 2 can be the program's own answer, docker's 125."""

    @property
    def function(self) -> str:
        """The name of its function."""
        return self.name.strip("_").replace("-", "_") + "_verb"


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("ps", "listing", "See", "List the guests"),
        Verb("top", "sampling", "See", "Print the guests' figures, sample after sample"),
        Verb("stats", "stats", "See", "Print the guests' figures as docker stats does"),
        Verb("events", "events", "See", "Print what happens to guests, as it happens"),
        Verb("logs", "logs", "See", "Print what a guest printed"),
        Verb("inspect", "inspecting", "See", "Print all that is known of a guest, as JSON"),
        Verb("limits", "limiting", "See", "Show a guest's limits and whether they bite"),
        Verb("processes", "inspecting", "See", "List the processes inside a guest, as the host sees them"),
        Verb("trace", "inspecting", "See", "Show what was done to a guest, with the commands that do it by hand"),
        Verb("run", "running", "Make and end", "Create a container from an image and run it", usage_code=125),
        Verb("create", "running", "Make and end", "Create a container and do not start it"),
        Verb("start", "lifecycle", "Make and end", "Start guests"),
        Verb("stop", "lifecycle", "Make and end", "Ask guests to end, and end containers by force after a time"),
        Verb("restart", "lifecycle", "Make and end", "Stop and start guests"),
        Verb("kill", "lifecycle", "Make and end", "Send a signal to guests; ends a VM by force"),
        Verb("pause", "lifecycle", "Make and end", "Freeze guests"),
        Verb("resume", "lifecycle", "Make and end", "Thaw frozen guests"),
        Verb("wait", "lifecycle", "Make and end", "Wait for guests to end and print their exit codes"),
        Verb("rename", "lifecycle", "Make and end", "Give a guest another name"),
        Verb("rm", "lifecycle", "Make and end", "Remove guests for good"),
        Verb("limit", "limiting", "Change", "Change guests' limits, at once"),
        Verb("update", "updating", "Change", "Change guests' limits and when they are started again by themselves"),
        Verb("snapshot", "snapshots", "Change", "Save, list, compare, restore and remove states of a guest"),
        Verb("clone", "cloning", "Make and end", "Make a guest like another, which shares its files"),
        Verb("template", "templates", "Make and end", "Keep guests to make others from"),
        Verb("checkpoint", "checkpoints", "Change", "Write a guest's processes to disk (CRIU)"),
        Verb("restore", "checkpoints", "Change", "Bring a guest back to life from its checkpoint"),
        Verb("exec", "executing", "Work inside", "Run a program in a live container", usage_code=125),
        Verb("attach", "executing", "Work inside", "Connect the terminal to a live container's own program"),
        Verb("cp", "copying", "Work inside", "Copy files between the host and a guest"),
        Verb("console", "executing", "Work inside", "Connect the terminal to a guest's serial console"),
        Verb("image", "images", "Images", "All that can be done to images: ls, inspect, history, search, prune …"),
        Verb("images", "images", "Images", "List the images"),
        Verb("history", "images", "Images", "Show the steps that an image was made in, with their layers"),
        Verb("tag", "images", "Images", "Give an image a further name"),
        Verb("import", "images", "Images", "Make an image from a root file system"),
        Verb("load", "images", "Images", "Take images from an archive or a folder"),
        Verb("save", "images", "Images", "Write images to an archive"),
        Verb("rmi", "images", "Images", "Take names from images, and remove those without"),
        Verb("build", "building", "Images", "Build an image from a Dockerfile"),
        Verb("diff", "building", "See", "List what differs between a guest's files and its image"),
        Verb("commit", "building", "Images", "Make an image of what a guest has changed"),
        Verb("pull", "transfers", "Images", "Fetch images from their registries"),
        Verb("push", "transfers", "Images", "Send images to their registries"),
        Verb("login", "transfers", "Images", "Keep credentials for a registry"),
        Verb("logout", "transfers", "Images", "Forget the credentials for a registry"),
        Verb("network", "networks", "Host", "Make, list and remove networks; put guests on them and take them off"),
        Verb("volume", "volumes", "Host", "Make, list and remove named volumes"),
        Verb("doctor", "host", "Host", "Say what works on this host and, for the rest, why not and what would mend it"),
        Verb("bench", "benching", "Host", "Measure what of the host's speed is left in a container and in a VM"),
        Verb("boot", "boot", "Host", "Start guests with the host: now, or through systemd"),
        Verb("clean", "host", "Host", "Sweep what a crash left behind"),
        Verb("demo", "demo", "Host", "Start three demo containers and a demo VM, and open the screen"),
        Verb("oci", "oci", "Host", "Run OCI bundles as runc does, for docker, podman and others"),
        Verb("completion", "completion", "Host", "Print the tab completion for bash, zsh or fish"),
        Verb("help", "manual", "Host", "Explain a verb"),
        Verb("__complete", "completion", "Host", "Print what can come next, a line each", is_hidden=True),
    )
}
