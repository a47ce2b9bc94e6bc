/*
 * Lets user-mode-linux run on processors whose registers are larger than its buffer for them.
 *
 * It saves and restores a program's vector registers with ptrace(PTRACE_GETREGSET/SETREGSET, NT_X86_XSTATE)
 * and a buffer of fixed size. Where the processor has AMX, the host's Linux takes back nothing but the whole
 * state, some 11 KiB, and user-mode-linux dies with its first program. Preloaded into it (LD_PRELOAD), this
 * puts what it saved into a buffer of the right size. The rest, AMX tiles, no program inside can use: that
 * needs a permission (ARCH_REQ_XCOMP_PERM) that user-mode-linux does not pass on.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEADER_AT = 512, AVX_END = 832, PKRU_END = 2696 };

static unsigned char state[65536] __attribute__((aligned(64)));
static size_t state_bytes;

static long kernel_ptrace(long request, pid_t pid, void *address, void *data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

static size_t whole_bytes(pid_t pid)
{
	struct iovec whole = {state, sizeof state};

	if (state_bytes == 0 && kernel_ptrace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole) == 0)
		state_bytes = whole.iov_len;
	return state_bytes;
}

static long set_whole(pid_t pid, const struct iovec *saved)
{
	size_t bytes = whole_bytes(pid);
	struct iovec whole = {state, bytes};
	uint64_t present;

	if (bytes <= saved->iov_len)
		return kernel_ptrace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, (void *)saved);
	memset(state, 0, bytes);
	memcpy(state, saved->iov_base, saved->iov_len);
	memcpy(&present, state + HEADER_AT, sizeof present);
	present &= saved->iov_len >= PKRU_END ? 0x2ff : saved->iov_len >= AVX_END ? 0x7 : 0x3;
	memcpy(state + HEADER_AT, &present, sizeof present);
	return kernel_ptrace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	pid_t pid;
	void *address, *data;
	long word, result;

	va_start(rest, request);
	pid = va_arg(rest, pid_t);
	address = va_arg(rest, void *);
	data = va_arg(rest, void *);
	va_end(rest);
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_whole(pid, data);
	if (request < PTRACE_PEEKTEXT || request > PTRACE_PEEKUSER)
		return kernel_ptrace(request, pid, address, data);
	/* The system call stores the word; glibc's function returns it. */
	result = kernel_ptrace(request, pid, address, &word);
	return result < 0 ? result : word;
}
