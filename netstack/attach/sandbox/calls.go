// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// needs are what differs between the lists of system calls of one process and
// another.
type needs struct {
	pid    int
	unix   bool // connects to Unix sockets
	remove bool // removes files
	diag   bool // asks the kernel who has a port
	prune  bool // removes empty directories
	change bool // makes and changes files
	wait   bool // has children and terminals
}

// newNeeds returns what a Policy says of system calls. Who has CAP_NET_ADMIN could
// also close the sockets of others by the same netlink socket that tells of them
// (SOCK_DESTROY), and asks nothing.
func newNeeds(p Policy, kept Capabilities) needs {
	return needs{pid: os.Getpid(), unix: len(p.Connect) > 0, remove: len(p.Remove) > 0, diag: kept&NetAdmin == 0, change: len(p.Change)+len(p.Clear) > 0, wait: p.Wait, prune: len(p.Prune) > 0}
}

// calls is the list: what a helper calls while it carries traffic and when it ends.
// What is not here fails as unknown. It was made from what traces of all its
// functions under load show, and from the source of the Go runtime.
func (n needs) calls() []call {
	list := n.guarded()
	for _, number := range append(plain(), archPlain()...) {
		list = append(list, call{number: number, otherwise: allow})
	}
	var more []uintptr
	if n.remove || n.change || n.prune {
		more = append(more, unix.SYS_UNLINKAT)
	}
	if n.change {
		more = append(more, changing()...)
	}
	if n.wait {
		more = append(more, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_SEND_SIGNAL)
	}
	for _, number := range more {
		list = append(list, call{number: number, otherwise: allow})
	}
	for _, number := range append(deadly(), archDeadly()...) {
		list = append(list, call{number: number, otherwise: kill})
	}
	return list
}

// guarded are the calls whose arguments matter, those of each connection first.
func (n needs) guarded() []call {
	return []call{
		n.socket(),
		setsockopt(),
		n.ioctl(),
		n.fcntl(),
		// Memory of the heap and of stacks. Nothing we run comes after the start, and
		// code of another's must not become ours.
		{number: unix.SYS_MMAP, cases: []clause{{[]test{without(2, unix.PROT_EXEC)}, allow}}, otherwise: kill},
		{number: unix.SYS_MPROTECT, cases: []clause{{[]test{without(2, unix.PROT_EXEC)}, allow}}, otherwise: kill},
		n.openat(),
		// Threads of the runtime, but no processes, and in no other namespace.
		{
			number: unix.SYS_CLONE, otherwise: kill,
			cases: []clause{{[]test{{0, unix.CLONE_THREAD | namespaces, unix.CLONE_THREAD}}, allow}},
		},
		// The runtime interrupts its threads so. Signals to others are none of ours.
		{number: unix.SYS_TGKILL, cases: []clause{{[]test{is(0, uint32(n.pid))}, allow}}, otherwise: refuse},
		// The runtime names its memory (PR_SET_VMA).
		{number: unix.SYS_PRCTL, cases: []clause{{[]test{is(0, unix.PR_SET_VMA)}, allow}}, otherwise: refuse},
	}
}

// fcntl lets through what is done to descriptors, and locks. F_SETOWN would send signals
// to others.
func (n needs) fcntl() call {
	commands := []uint32{
		unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ, unix.F_DUPFD_CLOEXEC, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD,
	}
	if n.change {
		commands = append(commands, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)
	}
	c := call{number: unix.SYS_FCNTL, otherwise: refuse}
	for _, cmd := range commands {
		c.cases = append(c.cases, clause{[]test{is(1, cmd)}, allow})
	}
	return c
}

// ioctl lets through what asks about sockets, and the tap; and of terminals what sets
// them, but not what types into them (TIOCSTI).
func (n needs) ioctl() call {
	commands := []uint32{
		unix.SIOCINQ,      // what waits to be read
		unix.SIOCOUTQ,     // what was not taken yet
		unix.SIOCGIFINDEX, // the tap's index
	}
	if n.wait {
		commands = append(commands, unix.TCGETS, unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TIOCGWINSZ, unix.TIOCSWINSZ,
			unix.TUNSETPERSIST) // the tap goes with its namespace, for which nobody waits
	}
	c := call{number: unix.SYS_IOCTL, otherwise: refuse}
	for _, cmd := range commands {
		c.cases = append(c.cases, clause{[]test{is(1, cmd)}, allow})
	}
	return c
}

// openat opens files to be read, and makes none, but for who changes some: Landlock
// says which those are.
func (n needs) openat() call {
	if n.change {
		return call{number: unix.SYS_OPENAT, otherwise: allow}
	}
	return call{number: unix.SYS_OPENAT, cases: []clause{{[]test{without(2, ^uint32(readOnly))}, allow}}, otherwise: refuse}
}

// readOnly are the flags of open(2) that leave a file as it is.
const readOnly = unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_LARGEFILE

// namespaces are the flags of clone(2) that make any.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// socket lets through what carries flows: TCP, UDP and ICMP's echo (a datagram
// socket, icmp(7)), but no raw and no packet sockets, and no family of which the
// kernel would first have to load the code.
func (n needs) socket() call {
	const kind = ^uint32(unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC)
	c := call{number: unix.SYS_SOCKET, otherwise: refuse}
	for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
		for _, k := range []uint32{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			c.cases = append(c.cases, clause{[]test{is(0, family), {1, kind, k}}, allow})
		}
	}
	if n.unix {
		c.cases = append(c.cases, clause{[]test{is(0, unix.AF_UNIX), {1, kind, unix.SOCK_STREAM}}, allow})
	}
	if n.diag {
		c.cases = append(c.cases, clause{[]test{is(0, unix.AF_NETLINK), is(2, unix.NETLINK_SOCK_DIAG)}, allow})
	}
	return c
}

// Numbers of options behind which other subsystems stand, and which package unix
// lacks: iptables, arptables and ebtables replace and count their rules by these
// (include/uapi/linux/netfilter_ipv4/ip_tables.h and its like).
const (
	iptReplace, iptCounters = 64, 65
	arptReplace             = 96
	ebtReplace              = 128
)

// setsockopt lets through all options but those by which a program is loaded into
// the kernel, another protocol put upon TCP, or a firewall replaced.
func setsockopt() call {
	c := call{number: unix.SYS_SETSOCKOPT, otherwise: allow}
	for _, o := range []struct{ level, name uint32 }{
		{unix.SOL_SOCKET, unix.SO_ATTACH_FILTER},
		{unix.SOL_SOCKET, unix.SO_ATTACH_BPF},
		{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF},
		{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF},
		{unix.SOL_TCP, unix.TCP_ULP},
		{unix.SOL_IP, iptReplace},
		{unix.SOL_IP, iptCounters},
		{unix.SOL_IP, arptReplace},
		{unix.SOL_IP, ebtReplace},
		{unix.SOL_IPV6, iptReplace},
		{unix.SOL_IPV6, iptCounters},
	} {
		c.cases = append(c.cases, clause{[]test{is(1, o.level), is(2, o.name)}, refuse})
	}
	return c
}

// plain are the calls that are let through whatever their arguments.
func plain() []uintptr {
	return []uintptr{
		// Traffic, on descriptors that are open.
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_SPLICE,
		unix.SYS_CLOSE, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT,
		unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_SHUTDOWN,
		unix.SYS_GETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
		unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
		unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
		unix.SYS_PIPE2, unix.SYS_PREAD64, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2,

		// The Go runtime: threads, time, signals, memory.
		unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD,
		unix.SYS_CLOCK_GETTIME, // where the vDSO has no clock
		unix.SYS_MADVISE, unix.SYS_MUNMAP,
		unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_RESTART_SYSCALL,
		unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETRANDOM,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,

		// resolv.conf, and whether the container is still there: its processes are
		// listed, looked at and waited for.
		unix.SYS_NEWFSTATAT, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_GETDENTS64,
		unix.SYS_PIDFD_OPEN, unix.SYS_PPOLL,

		// For messages: who we are, and how many descriptors there may be.
		unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETRLIMIT,
	}
}

// changing are the calls by which files are made and changed.
func changing() []uintptr {
	return []uintptr{
		unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2,
		unix.SYS_FTRUNCATE, unix.SYS_PWRITE64, unix.SYS_FLOCK, unix.SYS_FSYNC, unix.SYS_STATX, unix.SYS_READLINKAT,
	}
}

// deadly are calls that no part of a helper makes, nor any library of it where it has
// something else to try, and somebody would who has broken in: to become another
// program, to get into others' memory and descriptors, to change what the process
// sees of the system or who it is, and to get at those parts of the kernel where most
// of its holes were. They fail for a process without capabilities anyway, or mostly.
func deadly() []uintptr {
	return []uintptr{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_MEMFD_CREATE,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
		unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
		unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID,
		unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETFSUID, unix.SYS_SETFSGID,
		unix.SYS_SETGROUPS, unix.SYS_CAPSET,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
		unix.SYS_CLOCK_SETTIME, unix.SYS_SETTIMEOFDAY, unix.SYS_ADJTIMEX,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_PERSONALITY,
	}
}
