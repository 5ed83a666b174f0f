// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stageVar is the environment variable that tells the test binary its stage; see
// the package comment. stageNone means that no namespaces can be made.
const (
	stageVar   = "ATTACHTEST_STAGE"
	stageBuild = "1"
	stageTests = "2"
	stageNone  = "none"
)

// Descriptors of stage 2: the sockets to the agents of host, peer and user.
const (
	hostFD = 3 + iota
	peerFD
	userFD
)

// outsideFD is the last one's in stage 1.
const outsideFD = 3

// A World is the network outside of the containers: the host, in which the test's
// process is, and one neighbour.
type World struct {
	Host *Place // with all capabilities in the host's namespaces
	Peer *Place // … in the peer's

	user *Place // the plain user where the tests were started
}

// A Family is what tests have to know of an address family in the World.
type Family struct {
	Name string // "IPv4" or "IPv6"
	// HostAddr and PeerAddr are the two ends of the wire between host and peer.
	HostAddr, PeerAddr netip.Addr
	// Nobody is an address on that wire that nobody has.
	Nobody netip.Addr
	// NoRoute is an address to which the host has no route, Prohibited one to
	// which it has a route that prohibits.
	NoRoute, Prohibited netip.Addr
	Loopback            netip.Addr
}

// Is6 reports whether it is IPv6.
func (f Family) Is6() bool { return f.PeerAddr.Is6() }

// Families returns both.
func Families() []Family {
	return []Family{{
		Name:     "IPv4",
		HostAddr: netip.MustParseAddr("10.97.0.1"), PeerAddr: netip.MustParseAddr("10.97.0.2"),
		Nobody:     netip.MustParseAddr("10.97.0.77"),
		NoRoute:    netip.MustParseAddr("198.51.100.1"),
		Prohibited: netip.MustParseAddr("203.0.113.1"),
		Loopback:   netip.MustParseAddr("127.0.0.1"),
	}, {
		Name:     "IPv6",
		HostAddr: netip.MustParseAddr("fd97::1"), PeerAddr: netip.MustParseAddr("fd97::2"),
		Nobody:     netip.MustParseAddr("fd97::77"),
		NoRoute:    netip.MustParseAddr("2001:db8:1::1"),
		Prohibited: netip.MustParseAddr("2001:db8:2::1"),
		Loopback:   netip.IPv6Loopback(),
	}}
}

// Main runs the tests of m in a World and returns the exit code: TestMain passes
// it to os.Exit. With -short there is no World, and the tests run as they are.
func Main(m *testing.M) int {
	if len(os.Args) == 2 && os.Args[1] == agentWord {
		return report(serve(os.Stdin))
	}
	switch os.Getenv(stageVar) {
	case stageBuild:
		return buildWorld()
	case "":
		flag.Parse()
		if testing.Short() {
			break
		}
		attr := &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		}
		for c := range uintptr(unix.CAP_LAST_CAP + 1) {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
		code, err := beginWorld(attr)
		if err == nil {
			return code
		}
		fmt.Fprintf(os.Stderr, "no namespaces: %v\n", err)
		os.Setenv(stageVar, stageNone)
	}
	return m.Run()
}

// Open returns the World. Without one it skips the test; with CI=true in the
// environment it fails it instead, unless the tests are short.
func Open(t testing.TB) *World {
	t.Helper()
	if testing.Short() {
		t.Skip("needs namespaces: not with -short")
	}
	if os.Getenv(stageVar) != stageTests {
		Unavailable(t, "user namespaces cannot be made here")
	}
	w, err := world()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Unavailable ends a test for which the machine lacks something.
func Unavailable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// NeedTools ends the test if a command that it runs is missing.
func NeedTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			Unavailable(t, err.Error())
		}
	}
}

// world opens the sockets that stage 1 left to us.
var world = sync.OnceValues(func() (*World, error) {
	host, err := openPlace(os.NewFile(hostFD, "host"))
	if err != nil {
		return nil, err
	}
	peer, err := openPlace(os.NewFile(peerFD, "peer"))
	if err != nil {
		return nil, err
	}
	user, err := openPlace(os.NewFile(userFD, "user"))
	if err != nil {
		return nil, err
	}
	return &World{Host: host, Peer: peer, user: user}, nil
})

// beginWorld is the rest of stage 0: it serves as the agent outside.
func beginWorld(attr *syscall.SysProcAttr) (int, error) {
	outside, theirs, err := socketPair()
	if err != nil {
		return 0, err
	}
	go serve(theirs)
	return again(stageBuild, attr, outside)
}

// again runs this program again, as the given stage, and returns its exit code.
func again(stage string, attr *syscall.SysProcAttr, files ...*os.File) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The death signal is sent at the end of the thread that forked.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVar+"="+stage, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.ExtraFiles, cmd.SysProcAttr = files, attr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	closeAll(files)
	return exitCode(cmd.Wait())
}

// buildWorld is stage 1.
func buildWorld() int {
	unix.CloseOnExec(outsideFD)
	outside := os.NewFile(outsideFD, "outside")
	host, hostTheirs, err := socketPair()
	if err != nil {
		return report(err)
	}
	peer, peerTheirs, err := socketPair()
	if err != nil {
		return report(err)
	}
	pid, err := startPeer(peerTheirs)
	if err != nil {
		return report(err)
	}
	peer2, err := openPlace(peer)
	if err != nil {
		return report(err)
	}
	if err := script(hostScript(), "PEER="+fmt.Sprint(pid)); err != nil {
		return report(err)
	}
	go serve(hostTheirs)
	// The tests' process gets none of our capabilities: what is not ambient in the
	// thread that forks does not survive execve(2) for a plain user.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return report(err)
	}
	peerFile, err := peer2.conn.File()
	if err != nil {
		return report(err)
	}
	code, err := again(stageTests, &syscall.SysProcAttr{}, host, peerFile, outside)
	return max(code, report(err))
}

// startPeer starts the peer's agent in a network namespace of its own.
func startPeer(socket *os.File) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, agentWord)
	cmd.Stdin, cmd.Stderr = socket, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	defer socket.Close()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the peer: %w", err)
	}
	return cmd.Process.Pid, nil
}

// hostScript joins host and peer, as a shell script. Neighbours that do not
// answer are given up after 10 ms each time, and errors are not rationed (icmp(7),
// icmp_ratelimit): how long that takes on a real host is not ours to test.
func hostScript() string {
	lines := []string{
		"set -e",
		"ip link set lo up",
		"ip link add host0 type veth peer name peer0 netns $PEER",
		"echo $(id -g) $(id -g) > /proc/sys/net/ipv4/ping_group_range",
		"unrationed='for f in /proc/sys/net/ipv4/icmp_ratelimit /proc/sys/net/ipv6/icmp/ratelimit; do echo 0 > $f; done'",
		"sh -c \"$unrationed\"",
		"ip link set host0 up",
		"peer() { nsenter --target $PEER --net \"$@\"; }",
		"peer sh -c \"$unrationed\"",
		"peer ip link set lo up",
		"peer ip link set peer0 up",
	}
	for _, f := range Families() {
		cache, bits := "ipv4", 24
		if f.Is6() {
			cache, bits = "ipv6", 64
		}
		nodad := map[bool]string{true: " nodad"}[f.Is6()]
		lines = append(lines,
			fmt.Sprintf("ip addr add %s/%d dev host0%s", f.HostAddr, bits, nodad),
			fmt.Sprintf("peer ip addr add %s/%d dev peer0%s", f.PeerAddr, bits, nodad),
			fmt.Sprintf("ip route add prohibit %s", f.Prohibited),
			fmt.Sprintf("echo 10 > /proc/sys/net/%s/neigh/host0/retrans_time_ms", cache),
		)
	}
	return strings.Join(lines, "\n")
}

func script(text string, env ...string) error {
	cmd := exec.Command("sh", "-c", text)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the network: %w: %s", err, out)
	}
	return nil
}

func report(err error) int {
	if err == nil || errors.Is(err, os.ErrClosed) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "attachtest: %v\n", err)
	return 1
}
