"""The first process of a container with `--init`: runs the program, passes signals on, reaps, ends as it ends.

In C it would be::

    int main(int argc, char **argv) {              // argv[1] is the program
        sigset_t all; sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        prctl(PR_SET_CHILD_SUBREAPER, 1);          // where it is not process 1: --pid host
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            tcsetpgrp(0, getpid());                // keys of a terminal are the program's
            sigprocmask(SIG_SETMASK, &none, NULL);
            execvp(argv[1], argv + 1);             // 127 not found, 126 cannot be executed
        }
        for (;;) {
            int number = sigwaitinfo(&all, NULL), status, pid, code = -1;
            if (number != SIGCHLD) { kill(child, number); continue; }
            while ((pid = wait4(-1, &status, WNOHANG, NULL)) > 0)
                if (pid == child)
                    code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
            if (code >= 0) _exit(code);            // with process 1 the kernel ends all others
        }
    }

It opens nothing, allocates nothing and needs no library, so it runs in every image.
"""

from __future__ import annotations

from backends.native.reaper.assembler import (
    R8,
    R10,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    Assembler,
)

_WRITE, _SIGPROCMASK, _IOCTL, _GETPID, _FORK, _EXECVE, _EXIT_GROUP = 1, 14, 16, 39, 57, 59, 231
_WAIT4, _KILL, _SETPGID, _SIGTIMEDWAIT, _PRCTL = 61, 62, 109, 128, 157
_SIG_SETMASK, _SIGCHLD, _WNOHANG, _SUBREAPER, _TIOCSPGRP = 2, 17, 1, 36, 0x5410
_ENOENT, _EACCES, _ENOTDIR = 2, 13, 20
_SET_BYTES = 8

_FRAME = 8192
_SET, _WORD, _PATH = 0, 8, 16
"""Offsets in the frame on the stack: a signal set, a word for answers, and a path that is put together."""

_LONGEST = 4096
_ARGV, _ENVP, _CHILD, _CODE = R12, R13, R14, R15


def executable() -> bytes:
    """Return the whole ELF file (x86-64)."""
    code = Assembler()
    _begin(code)
    _wait_for_signals(code)
    _become_program(code)
    _search(code)
    _say(code)
    return code.executable()


def _begin(code: Assembler) -> None:
    code.load(RAX, RSP)  # argc
    code.address(_ARGV, RSP, 16)  # &argv[1]
    code.copy(_ENVP, RSP)
    code.label("find environment")  # behind argv's NULL: rsp + 8 * (argc + 2)
    code.add(_ENVP, 8)
    code.sub(RAX, 1)
    code.compare(RAX, 0)
    code.jump_if("ge", "find environment")
    code.add(_ENVP, 8)
    code.sub(RSP, _FRAME)
    code.mov(RDI, _SUBREAPER)
    code.mov(RSI, 1)
    code.syscall(_PRCTL)
    code.mov(RAX, -1)
    code.call("set mask")
    code.syscall(_FORK)
    code.copy(_CHILD, RAX)
    code.compare(_CHILD, 0)
    code.jump_if("e", "child")
    code.jump_if("l", "cannot execute")
    code.mov(_CODE, -1)


def _wait_for_signals(code: Assembler) -> None:
    code.label("next signal")
    code.address(RDI, RSP, _SET)  # still all of them
    code.mov(RSI, 0)
    code.mov(RDX, 0)
    code.mov(R10, _SET_BYTES)
    code.syscall(_SIGTIMEDWAIT)
    code.compare(RAX, 0)
    code.jump_if("le", "next signal")
    code.compare(RAX, _SIGCHLD)
    code.jump_if("e", "reap")
    code.copy(RDI, _CHILD)
    code.copy(RSI, RAX)
    code.syscall(_KILL)
    code.jump("next signal")

    code.label("reap")
    code.mov(RDI, -1)
    code.address(RSI, RSP, _WORD)
    code.mov(RDX, _WNOHANG)
    code.mov(R10, 0)
    code.syscall(_WAIT4)
    code.compare(RAX, 0)
    code.jump_if("le", "reaped")
    code.compare_registers(RAX, _CHILD)
    code.jump_if("ne", "reap")
    code.load_int(_CODE, RSP, _WORD)
    code.copy(RAX, _CODE)
    code.shift_right(_CODE, 8)
    code.and_(_CODE, 0xFF)
    code.and_(RAX, 0x7F)
    code.compare(RAX, 0)
    code.jump_if("e", "reap")
    code.copy(_CODE, RAX)
    code.add(_CODE, 128)
    code.jump("reap")

    code.label("reaped")
    code.compare(_CODE, 0)
    code.jump_if("l", "next signal")
    code.copy(RDI, _CODE)
    code.syscall(_EXIT_GROUP)

    code.label("set mask")  # to the 64 bits in rax
    code.store(RSP, 8 + _SET, RAX)  # 8: the return address
    code.mov(RDI, _SIG_SETMASK)
    code.address(RSI, RSP, 8 + _SET)
    code.mov(RDX, 0)
    code.mov(R10, _SET_BYTES)
    code.syscall(_SIGPROCMASK)
    code.ret()


def _become_program(code: Assembler) -> None:
    code.label("child")
    code.mov(RDI, 0)
    code.mov(RSI, 0)
    code.syscall(_SETPGID)
    code.syscall(_GETPID)
    code.store(RSP, _WORD, RAX)
    code.mov(RDI, 0)
    code.mov(RSI, _TIOCSPGRP)
    code.address(RDX, RSP, _WORD)
    code.syscall(_IOCTL)  # no terminal: it says so, and that is fine
    code.mov(RAX, 0)
    code.call("set mask")
    code.mov(RBP, _ENOENT)  # what to answer if nothing is found
    code.load(RBX, _ARGV)
    code.compare(RBX, 0)
    code.jump_if("e", "not found")
    code.copy(RCX, RBX)
    code.label("has slash")
    code.load_byte(RAX, RCX)
    code.add(RCX, 1)
    code.compare(RAX, ord("/"))
    code.jump_if("e", "as it is")
    code.compare(RAX, 0)
    code.jump_if("ne", "has slash")
    code.jump("find PATH")

    code.label("as it is")
    code.copy(RDI, RBX)
    code.call("execute")
    code.jump("failed")

    code.label("execute")  # the path in rdi; comes back only with the error noted in rbp
    code.copy(RSI, _ARGV)
    code.copy(RDX, _ENVP)
    code.syscall(_EXECVE)
    code.compare(RAX, -_ENOENT)
    code.jump_if("e", "execute next")
    code.compare(RAX, -_ENOTDIR)
    code.jump_if("e", "execute next")
    code.mov(RBP, _EACCES)
    code.label("execute next")
    code.ret()


def _search(code: Assembler) -> None:
    """The program without a slash, in each folder of PATH. r8 walks along PATH, rdi along the path put together."""
    code.label("find PATH")
    code.copy(RCX, _ENVP)
    code.label("next variable")
    code.load(R8, RCX)
    code.add(RCX, 8)
    code.compare(R8, 0)
    code.jump_if("e", "failed")
    for offset, letter in enumerate(b"PATH="):
        code.load_byte(RAX, R8, offset)
        code.compare(RAX, letter)
        code.jump_if("ne", "next variable")
    code.add(R8, 5)

    code.label("next folder")
    code.address(RDI, RSP, _PATH)
    code.mov(RCX, _LONGEST)
    code.label("copy folder")
    code.load_byte(RAX, R8)
    code.compare(RAX, 0)
    code.jump_if("e", "folder is copied")
    code.compare(RAX, ord(":"))
    code.jump_if("e", "folder is copied")
    code.call("append")
    code.add(R8, 1)
    code.jump("copy folder")

    code.label("folder is copied")
    code.compare(RCX, _LONGEST)
    code.jump_if("e", "copy name from here")  # an empty folder is the present one
    code.mov(RAX, ord("/"))
    code.call("append")
    code.label("copy name from here")
    code.copy(RDX, RBX)
    code.label("copy name")
    code.load_byte(RAX, RDX)
    code.call("append")
    code.add(RDX, 1)
    code.compare(RAX, 0)
    code.jump_if("ne", "copy name")
    code.compare(RCX, 0)
    code.jump_if("le", "skip")  # longer than any path may be
    code.address(RDI, RSP, _PATH)
    code.call("execute")
    code.label("skip")
    code.load_byte(RAX, R8)
    code.add(R8, 1)
    code.compare(RAX, 0)
    code.jump_if("ne", "next folder")
    code.jump("failed")

    code.label("append")  # the byte in rax, while rcx says that there is room
    code.compare(RCX, 0)
    code.jump_if("le", "append nothing")
    code.store_byte(RDI, 0, RAX)
    code.add(RDI, 1)
    code.sub(RCX, 1)
    code.label("append nothing")
    code.ret()


def _say(code: Assembler) -> None:
    code.label("failed")
    code.compare(RBP, _EACCES)
    code.jump_if("e", "cannot execute")
    code.label("not found")
    code.address_of(RSI, "not found text")
    code.call("write")
    code.mov(RDI, 127)
    code.syscall(_EXIT_GROUP)

    code.label("cannot execute")
    code.address_of(RSI, "cannot execute text")
    code.call("write")
    code.mov(RDI, 126)
    code.syscall(_EXIT_GROUP)

    code.label("write")  # the text in rsi, which ends with a zero, to stderr
    code.copy(RDX, RSI)
    code.label("length")
    code.load_byte(RAX, RDX)
    code.add(RDX, 1)
    code.compare(RAX, 0)
    code.jump_if("ne", "length")
    code.subtract_registers(RDX, RSI)
    code.sub(RDX, 1)
    code.mov(RDI, 2)
    code.syscall(_WRITE)
    code.ret()
    code.data("not found text", b"init: there is no such program in the container, nor in its PATH\n\0")
    code.data("cannot execute text", b"init: the program cannot be executed\n\0")
