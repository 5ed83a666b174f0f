// SPDX-License-Identifier: Apache-2.0

package taptest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// A Container is a process in new namespaces that does nothing until it is
// killed. Its methods may be called from any goroutine.
type Container struct {
	cmd  *exec.Cmd
	keep io.Closer // the container's standard input: its end ends the container
	kill sync.Once
}

// RequireUserNS skips the test where the machine does not let us make user
// namespaces. With CI=true in the environment it fails it instead.
func RequireUserNS(t testing.TB) {
	t.Helper()
	cmd := exec.Command("true")
	cmd.SysProcAttr = unshare(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET)
	if err := cmd.Run(); err != nil {
		unavailable(t, fmt.Sprintf("user namespaces cannot be made here: %v", err))
	}
}

// NewContainer starts a container of the current user, who is root in it, with a
// new user and network namespace. The test's end kills it.
func NewContainer(t testing.TB) *Container {
	t.Helper()
	RequireUserNS(t)
	return start(t, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET)
}

// NewNetNS starts a container with a new network namespace in our own user
// namespace, in which we need CAP_SYS_ADMIN.
func NewNetNS(t testing.TB) *Container {
	t.Helper()
	return start(t, syscall.CLONE_NEWNET)
}

// PID returns the id of the container's process.
func (c *Container) PID() int { return c.cmd.Process.Pid }

// NetNSPath returns the path of the container's network namespace, which is
// there as long as its process is.
func (c *Container) NetNSPath() string { return fmt.Sprintf("/proc/%d/ns/net", c.PID()) }

// UserNSPath returns the path of the container's user namespace.
func (c *Container) UserNSPath() string { return fmt.Sprintf("/proc/%d/ns/user", c.PID()) }

// Command returns a command to be run inside the container, as its root.
func (c *Container) Command(args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(c.PID()), "--net"}
	if own, err := os.Readlink("/proc/self/ns/user"); err == nil {
		if theirs, err := os.Readlink(c.UserNSPath()); err == nil && own != theirs {
			enter = append(enter, "--user", "--preserve-credentials")
		}
	}
	cmd := exec.Command("nsenter", append(append(enter, "--"), args...)...)
	// Where a plain user's tools are root's too, such as ethtool.
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

// Exec runs a command inside the container and returns its standard output. Its
// failure ends the test.
func (c *Container) Exec(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.Command(args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("run %q in the container: %v", args, err)
	}
	return string(out)
}

// Kill kills the container's process and waits for its end. Nothing else holds
// its namespaces then, but the kernel may take a moment to end them.
func (c *Container) Kill() {
	c.kill.Do(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.keep.Close()
	})
}

// start runs cat, which waits for the end of its input: so the container ends
// with the test's process however that ends.
func start(t testing.TB, flags uintptr) *Container {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = unshare(flags)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("make a pipe: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a container: %v", err)
	}
	c := &Container{cmd: cmd, keep: in}
	t.Cleanup(c.Kill)
	return c
}

// unshare returns the attributes of a process in new namespaces, whose root,
// where the user namespace is new, is the current user.
func unshare(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// unavailable ends a test for which the machine lacks something.
func unavailable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
