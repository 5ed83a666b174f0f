// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// prepared are what attempts use that was there before the process was confined.
type prepared struct {
	socket int
	file   *os.File
	thread func(func() error) error // calls a function on a thread that was there
}

func prepare() prepared {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	file, err := os.CreateTemp("", "sandbox")
	if err != nil {
		panic(err)
	}
	os.Remove(file.Name())
	calls, done := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range calls {
			done <- f()
		}
	}()
	thread := func(f func() error) error { calls <- f; return <-done }
	_ = thread(func() error { return nil }) // it is there
	return prepared{fd, file, thread}
}

// An attempt returns what came of it: the name of an errno, "ok", or more.
type attempt func(b prepared, arg string) string

// verdictOf names an error.
func verdictOf(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// do makes an attempt of a function.
func do(f func(b prepared, arg string) error) attempt {
	return func(b prepared, arg string) string { return verdictOf(f(b, arg)) }
}

// call makes an attempt of a system call.
func call(number uintptr, args ...uintptr) attempt {
	return do(func(prepared, string) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	})
}

func socket(domain, kind, proto int) attempt {
	return do(func(prepared, string) error {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

func fcntl(cmd int) attempt {
	return do(func(b prepared, _ string) error {
		_, err := unix.FcntlInt(uintptr(b.socket), cmd, 1)
		return err
	})
}

func option(level, name int) attempt {
	return do(func(b prepared, _ string) error { return unix.SetsockoptInt(b.socket, level, name, 1) })
}

func opened(flags int) attempt {
	return do(func(_ prepared, path string) error {
		f, err := os.OpenFile(path, flags, 0o600)
		if err == nil {
			f.Close()
		}
		return err
	})
}

// execute becomes another program, which says so.
func execute() error {
	return unix.Exec("/bin/echo", []string{"echo", "executed"}, nil)
}

// clone makes a process that ends at once, with the flags.
func clone(flags uintptr) attempt {
	return do(func(prepared, string) error {
		// With CLONE_VFORK we go on when the child has ended; it has our memory, and
		// does nothing but that, on our stack.
		pid, errno := rawClone(flags | unix.CLONE_VFORK | uintptr(unix.SIGCHLD))
		if errno != 0 {
			return errno
		}
		_, err := unix.Wait4(int(pid), nil, 0, nil)
		return err
	})
}

//go:noinline
func rawClone(flags uintptr) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return pid, errno
}

// tree lists the whole file system, to a depth and number of names that any other
// than an empty one exceeds.
func tree(prepared, string) string {
	const depth, most = 5, 64
	var names []string
	_ = filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if len(names) == most {
			return fs.SkipAll
		}
		if path != "/" {
			names = append(names, path)
		}
		if err == nil && d.IsDir() && strings.Count(path, "/") > depth {
			return fs.SkipDir
		}
		return nil
	})
	return strings.Join(names, " ")
}

// id returns the process' id.
func id(prepared, string) string { return strconv.Itoa(os.Getpid()) }

// core returns the limit of a core file, in bytes, and whether the process can be
// traced by its user.
func core(prepared, string) string {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &lim); err != nil {
		return verdictOf(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return verdictOf(err)
	}
	return fmt.Sprint(lim.Cur, lim.Max, dumpable)
}

// mapped maps memory, and then makes it executable.
func mapped(prot, later int) attempt {
	return do(func(prepared, string) error {
		mem, err := unix.Mmap(-1, 0, os.Getpagesize(), prot, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err == nil && later != 0 {
			err = unix.Mprotect(mem, later)
		}
		return err
	})
}

// attemptsByName are all of them.
func attemptsByName() map[string]attempt {
	zero := new([64]byte)
	at := uintptr(unsafe.Pointer(zero))
	return map[string]attempt{
		"execve":           do(func(prepared, string) error { return execute() }),
		"execve-thread":    do(func(b prepared, _ string) error { return b.thread(execute) }),
		"ptrace":           call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, ^uintptr(0)),
		"process_vm_readv": call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid())),
		"fork":             clone(0),
		"clone-user":       clone(unix.CLONE_NEWUSER),
		"unshare":          call(unix.SYS_UNSHARE, 0),
		"setns":            call(unix.SYS_SETNS, ^uintptr(0), 0),
		"mount":            call(unix.SYS_MOUNT),
		"chroot":           call(unix.SYS_CHROOT, at),
		"bpf":              call(unix.SYS_BPF, ^uintptr(0)),
		"io_uring_setup":   call(unix.SYS_IO_URING_SETUP, 0, at),
		"keyctl":           call(unix.SYS_KEYCTL, ^uintptr(0)),
		"userfaultfd":      call(unix.SYS_USERFAULTFD, ^uintptr(0)),
		"memfd_create":     call(unix.SYS_MEMFD_CREATE, at, 0),
		"capset":           call(unix.SYS_CAPSET),
		"map-executable":   mapped(unix.PROT_READ|unix.PROT_EXEC, 0),
		"make-executable":  mapped(unix.PROT_READ|unix.PROT_WRITE, unix.PROT_READ|unix.PROT_EXEC),
		"map":              mapped(unix.PROT_READ|unix.PROT_WRITE, unix.PROT_READ),

		"kill":          call(unix.SYS_KILL, uintptr(os.Getppid()), 0),
		"signal-thread": call(unix.SYS_TGKILL, uintptr(os.Getppid()), uintptr(os.Getppid()), 0),
		"pidfd-signal":  call(unix.SYS_PIDFD_SEND_SIGNAL, ^uintptr(0), 0),
		"seccomp":       call(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, at),
		"dumpable":      call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
		"mkdir":         do(func(_ prepared, path string) error { return unix.Mkdir(path, 0o700) }),
		"rename":        do(func(_ prepared, path string) error { return unix.Rename(path, path+".new") }),
		"rmdir":         do(func(_ prepared, path string) error { return unix.Rmdir(path) }),
		"rename-to": do(func(_ prepared, paths string) error {
			from, to, _ := strings.Cut(paths, " ")
			return unix.Rename(from, to)
		}),
		"set-window": do(func(b prepared, _ string) error {
			return unix.IoctlSetWinsize(b.socket, unix.TIOCSWINSZ, &unix.Winsize{})
		}),
		"type-ahead": do(func(b prepared, _ string) error { return unix.IoctlSetPointerInt(b.socket, unix.TIOCSTI, 0) }),
		"setrlimit":  do(func(prepared, string) error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1}) }),
		"getrlimit":  do(func(prepared, string) error { var l unix.Rlimit; return unix.Getrlimit(unix.RLIMIT_NOFILE, &l) }),
		"truncate":   do(func(b prepared, _ string) error { return unix.Ftruncate(int(b.file.Fd()), 1) }),
		"unlink":     do(func(_ prepared, path string) error { return unix.Unlink(path) }),
		"stat":       do(func(_ prepared, path string) error { var st unix.Stat_t; return unix.Stat(path, &st) }),
		"stat-thread": do(func(b prepared, path string) error {
			return b.thread(func() error { var st unix.Stat_t; return unix.Stat(path, &st) })
		}),
		"readlink": do(func(_ prepared, path string) error { _, err := os.Readlink(path); return err }),
		"read": func(_ prepared, path string) string {
			b, err := os.ReadFile(path)
			return verdictOf(err) + " " + string(b)
		},
		"open":            opened(os.O_RDONLY),
		"open-write":      opened(os.O_WRONLY),
		"open-both":       opened(os.O_RDWR),
		"open-create":     opened(os.O_RDONLY | os.O_CREATE),
		"open-truncate":   opened(os.O_RDONLY | os.O_TRUNC),
		"open-path":       opened(unix.O_PATH),
		"tree":            tree,
		"id":              id,
		"core":            core,
		"socket-tcp":      socket(unix.AF_INET, unix.SOCK_STREAM, 0),
		"socket-udp6":     socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0),
		"socket-diag":     socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG),
		"socket-route":    socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		"socket-unix":     socket(unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"socket-unixgram": socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0),
		"socket-packet":   socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
		"socket-raw":      socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"socket-alg":      socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		"owner":           fcntl(unix.F_SETOWN),
		"flags":           fcntl(unix.F_SETFD),
		"filter":          option(unix.SOL_SOCKET, unix.SO_ATTACH_BPF),
		"iptables":        option(unix.SOL_IP, 64), // IPT_SO_SET_REPLACE
		"ttl":             option(unix.SOL_IP, unix.IP_TTL),
		"ifflags": do(func(b prepared, _ string) error {
			ifr, err := unix.NewIfreq("lo")
			if err != nil {
				return err
			}
			return unix.IoctlIfreq(b.socket, unix.SIOCGIFFLAGS, ifr)
		}),
		"queued": do(func(b prepared, _ string) error { _, err := unix.IoctlGetInt(b.socket, unix.SIOCOUTQ); return err }),
		"abstract": do(func(_ prepared, name string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		}),
	}
}
