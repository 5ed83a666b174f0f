// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// podmanNetNS does for $1, a directory, what Podman 5 does when a container starts and
// ends: as root of a user namespace it binds a network namespace to a file, runs pasta
// ($2) with the words of containers/common (libnetwork/pasta) and waits
// for the end of all that pasta has open, as exec.CombinedOutput. $3 are more options.
// Each line that is read from $1/do is a command in the container; the word end removes
// the namespace's file, and waits for the end of pasta, as nobody else does.
const podmanNetNS = `set -e
dir=$1 pasta=$2 more=$3 ns=$1/netns-1
touch $ns
unshare -n mount --bind /proc/self/ns/net $ns || exit 9
set +e
out=$($pasta --config-net $more --dns-forward 169.254.1.1 -T none -U none --no-map-gw --quiet --netns $ns --pid $dir/pid 2>&1)
echo "exit $? $out"
while read -r line <$dir/do; do
	[ "$line" = end ] && break
	nsenter --net=$ns sh -c "$line" 2>&1
	echo "done"
done
umount $ns && rm $ns
while kill -0 $(cat $dir/pid) 2>/dev/null; do :; done
echo ended
`

// A pastaRun is a container as Podman 5 networks it.
type pastaRun struct {
	*attachtest.Machine
	proc *attachtest.Process
	dir  string
}

// newPastaMachine makes a machine whose default route leads to the neighbour.
func newPastaMachine(t *testing.T) *attachtest.Machine {
	t.Helper()
	m := attachtest.NewMachine(t)
	for _, f := range attachtest.Families() {
		m.Host.Exec(t, "ip", "route", "add", "default", "via", f.PeerAddr.String(), "dev", "host0")
	}
	return m
}

// pastaDir makes a directory that goes with the test, near the root: other users enter it.
func pastaDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pasta")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startPasta starts the container, and returns what pasta had to say with its exit code.
func startPasta(t *testing.T, m *attachtest.Machine, pasta, more string) (*pastaRun, string) {
	t.Helper()
	dir := pastaDir(t)
	m.Host.Exec(t, "mkfifo", "-m", "666", filepath.Join(dir, "do"))
	argv := m.AsUser([]string{"PATH=" + podmanPath}, "unshare", "--user", "--map-root-user", "--mount", "--propagation=private",
		"sh", "-c", podmanNetNS, "sh", dir, pasta, more)
	r := &pastaRun{m, m.Host.Start(t, argv...), dir}
	t.Cleanup(r.proc.Kill)
	return r, r.proc.WaitLine(t, "exit ")
}

// say writes a line to the container.
func (r *pastaRun) say(t *testing.T, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, "do"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// run runs a shell command in the container, and returns what it wrote.
func (r *pastaRun) run(t *testing.T, command string) string {
	t.Helper()
	r.say(t, command+"; echo; echo over")
	var out strings.Builder
	for {
		line, err := r.proc.Out.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %s: %v", command, &out, err)
		}
		if line == "over\n" {
			r.proc.WaitLine(t, "done")
			return strings.TrimSpace(out.String())
		}
		out.WriteString(line)
	}
}

// end ends the container, and waits for the end of pasta.
func (r *pastaRun) end(t *testing.T) {
	t.Helper()
	r.say(t, "end")
	r.proc.WaitLine(t, "ended")
}

// pastas are the real one and ours.
func pastas(t *testing.T) map[string]string {
	t.Helper()
	attachtest.NeedTools(t, "pasta", "ip", "socat", "busybox", "nsenter", "mkfifo")
	theirs, err := exec.LookPath("pasta")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"real": theirs, "ours": oursAs(t, "pasta")}
}

// TestPastaForPodman has both do what Podman 5 asks for, in the same words: the container
// gets the host's address, gateway and interface, published ports are reached, and the
// end of the namespace's file is the end of pasta.
func TestPastaForPodman(t *testing.T) {
	seen := map[string]string{}
	for name, pasta := range pastas(t) {
		t.Run(name, func(t *testing.T) {
			r, said := startPasta(t, newPastaMachine(t), pasta, "-t 18080-18080:8080-8080 -u 18081-18081:8081-8081")
			if strings.TrimSpace(said) != "exit 0" {
				t.Fatalf("pasta: %s", said)
			}
			seen[name] = r.run(t, `ip -o -4 addr show host0 | sed "s/ *valid_lft.*//;s/\\\\//;s/^[0-9]*://;s/brd [^ ]* //"; ip -o -6 addr show host0 scope global | grep -o "inet6 [^ ]*"; ip -4 route; ip -6 route show default | cut -d" " -f1-5; ip -o link show host0 | grep -o "mtu [0-9]*"`)
			if name == "real" {
				return // of the one of Debian 12, TCP clients get no answer here, and it outlives the namespace's file
			}
			r.say(t, "("+strings.ReplaceAll(addressServer, "\n", " ")+") >"+r.dir+"/log 2>&1 & echo over")
			r.proc.WaitLine(t, "done")
			r.waitFile(t, "log", "AF=2", 2)
			f := attachtest.Families()[0]
			clients := fmt.Sprintln(visitTCP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, 18080)), visitUDP(t, r.Peer, netip.AddrPortFrom(f.HostAddr, 18081)),
				visitTCP(t, r.Host, netip.AddrPortFrom(f.Loopback, 18080)), visitTCP(t, r.Host, netip.AddrPortFrom(f.HostAddr, 18080)))
			// The peer as itself, and the host, whose address the container has, as the gateway.
			if want := fmt.Sprintln(f.PeerAddr, f.PeerAddr, f.PeerAddr, f.PeerAddr); clients != want {
				t.Errorf("clients are seen as %s, want %s", clients, want)
			}
			r.end(t)
			// The ports are free at once: who starts again has them.
			r.Host.Listen(t, netip.AddrPortFrom(f.HostAddr, 18080))
		})
	}
	if seen["real"] != seen["ours"] || seen["ours"] == "" {
		t.Errorf("pasta:\n%s\nours:\n%s", seen["real"], seen["ours"])
	}
}

// waitFile waits until a file of the container's directory has n lines with the text.
func (r *pastaRun) waitFile(t *testing.T, name, text string, n int) {
	t.Helper()
	attachtest.Eventually(t, fmt.Sprintf("%s has %d lines with %q", name, n, text), func() bool {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		return err == nil && strings.Count(string(b), text) >= n
	})
}

// TestPastaHost has what of the host Podman's containers reach: by 169.254.1.2 the host
// at its own address, by 169.254.1.1 its name servers, neighbours at theirs, and its
// loopback by nothing.
func TestPastaHost(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	f := attachtest.Families()[0]
	m.Peer.ServeDNS(t, netip.AddrPortFrom(f.PeerAddr, 53))
	own := serveHTTP(t, m.Host, f.HostAddr, []byte(hello))
	peer := serveHTTP(t, m.Peer, f.PeerAddr, []byte(hello))
	loop := netip.MustParseAddrPort(serveHTTP(t, m.Host, f.Loopback, []byte("secret\n")))
	r, said := startPasta(t, m, pasta, "-t none -u none --map-guest-addr 169.254.1.2")
	if strings.TrimSpace(said) != "exit 0" {
		t.Fatalf("pasta: %s", said)
	}
	fetch := func(at string) string { return r.run(t, "busybox wget -q -O - http://"+at+" 2>&1") }
	ownPort := netip.MustParseAddrPort(own).Port()
	if got := fetch(fmt.Sprint("169.254.1.2:", ownPort)); got != strings.TrimSpace(hello) {
		t.Errorf("the host at 169.254.1.2: %q", got)
	}
	if got := fetch(peer); got != strings.TrimSpace(hello) {
		t.Errorf("a neighbour, which is the gateway too: %q", got)
	}
	for _, at := range []string{"169.254.1.2", f.PeerAddr.String(), f.HostAddr.String()} {
		if got := fetch(fmt.Sprint(at, ":", loop.Port())); !strings.Contains(got, "refused") && !strings.Contains(got, "unreachable") {
			t.Errorf("the host's loopback by %s: %q", at, got)
		}
	}
	if got := r.run(t, "busybox nslookup -type=txt short.example 169.254.1.1 | grep text"); !strings.Contains(got, "by udp") {
		t.Errorf("the name server: %q", got)
	}
	r.end(t)
}

// TestPastaFailures has what Podman prints: one line and exit code 1, and nothing is left.
func TestPastaFailures(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	f := attachtest.Families()[0]
	taken := m.Host.Listen(t, netip.AddrPortFrom(f.HostAddr, 0)).Addr().(*net.TCPAddr).Port
	for _, tt := range []struct{ more, says string }{
		{fmt.Sprintf("-t %s/%d -u none", f.HostAddr, taken), "is in use"},
		{"-t none -u none --bogus", "unrecognized option '--bogus'"},
		{"-t none -u none --log-file /nonexistent/log", "log file"},
		{"-t none -u none --pcap /nonexistent/pcap", "capture"},
		{"-t none -u none -I lo", "lo"},
	} {
		r, said := startPasta(t, m, pasta, tt.more)
		text, failed := strings.CutPrefix(said, "exit 1 ")
		if !failed || !strings.Contains(text, tt.says) || !strings.HasPrefix(text, "pasta: ") {
			t.Errorf("%s: %q, want exit 1 and %q", tt.more, said, tt.says)
		}
		if out := r.run(t, "ip -o link | grep -vc lo:"); !strings.HasPrefix(out, "0") {
			t.Errorf("%s: interfaces are left: %s", tt.more, out)
		}
		if out, _ := m.Host.Run(t, "pgrep", "-x", "pasta"); strings.TrimSpace(out) != "" {
			t.Errorf("%s: a process is left: %s", tt.more, out)
		}
		r.proc.Kill()
	}
}

// TestPastaPIDFile leaves the process id of another pasta where that has the namespace, and
// no file where there was none.
func TestPastaPIDFile(t *testing.T) {
	pasta := pastas(t)["ours"]
	r, said := startPasta(t, newPastaMachine(t), pasta, "-t none -u none")
	if strings.TrimSpace(said) != "exit 0" {
		t.Fatalf("pasta: %s", said)
	}
	before := r.run(t, "cat "+r.dir+"/pid")
	for _, file := range []string{"pid", "other"} {
		second := fmt.Sprintf("unshare -n %s --netns /nonexistent --pid %s/%s; echo $?", pasta, r.dir, file)
		if got := r.run(t, second); !strings.HasSuffix(got, "1") {
			t.Errorf("a second one: %s", got)
		}
	}
	if after := r.run(t, "cat "+r.dir+"/pid"); after != before || before == "" {
		t.Errorf("the file has %q, want %q", after, before)
	}
	if got := r.run(t, "ls "+r.dir); strings.Contains(got, "other") {
		t.Errorf("a file is left: %s", got)
	}
	r.end(t)
}

// TestPastaCommand runs commands in namespaces of their own, with both.
func TestPastaCommand(t *testing.T) {
	seen := map[string]string{}
	for name, pasta := range pastas(t) {
		m := newPastaMachine(t)
		var out []string
		for _, line := range [][]string{
			{"sh", "-c", "id -u; ip -o -4 addr show host0 | grep -o 'inet [^ ]*'; echo $$; exit 7"},
			{"sh", "-c", "kill -TERM $$; cat /proc/net/route | wc -l"},
			{"sh", "-c", "sh -c 'kill -KILL $$'; exit $?"},
			{"true"},
		} {
			got, code := m.Host.Run(t, m.AsUser([]string{"PATH=" + podmanPath}, append([]string{pasta, "--config-net", "-q", "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--"}, line...)...)...)
			out = append(out, fmt.Sprint(code, " ", strings.Join(strings.Fields(got), " ")))
		}
		seen[name] = strings.Join(out, "\n")
	}
	if seen["real"] != seen["ours"] || seen["ours"] == "" {
		t.Errorf("pasta:\n%s\nours:\n%s", seen["real"], seen["ours"])
	}
}

// sleeper is a shell's command line that makes a container of one process, c.
const sleeper = `unshare --user --map-root-user --net busybox sleep 1007 & c=$!
until [ "$(readlink /proc/$c/ns/net)" != "$(readlink /proc/$$/ns/net)" ] && grep -q . /proc/$c/uid_map; do :; done
`

// TestPastaLastWords has why a pasta ended that had left its caller already: its log tells.
func TestPastaLastWords(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	dir := pastaDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	// The caller cannot be told that the network is up.
	const line = sleeper + `bash -c 'exec -a slipway-pasta "$0" --config-net -t none -u none --log-file "$1" "$2" 3</dev/null' $0 $1 $c; code=$?
chmod 644 $1; kill $c; exit $code`
	out, code := m.Host.Run(t, m.AsUser([]string{"PATH=" + podmanPath}, "sh", "-c", line, pasta, log)...)
	text, err := os.ReadFile(log)
	if code != 1 || err != nil || !strings.Contains(string(text), "the session has ended") {
		t.Errorf("exit code %d, %q; the log has %q, error %v", code, out, text, err)
	}
}

// TestPastaLoopback reaches a service at the host's loopback by -T, of a command, and of
// a process whose pasta has left its caller, and has a filter of system calls.
func TestPastaLoopback(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	loop := netip.MustParseAddrPort(serveHTTP(t, m.Host, attachtest.Families()[0].Loopback, []byte(hello)))
	const fetch = "busybox wget -q -O - http://127.0.0.1:6379; busybox wget -q -O - http://[::1]:6379"
	const attached = sleeper + `$0 --config-net -q -t none -u none -T $1 $c && nsenter --preserve-credentials --user --net --target $c sh -c "$2"; code=$?; kill $c; exit $code`
	port := fmt.Sprint("6379:", loop.Port())
	for _, argv := range [][]string{
		{pasta, "--config-net", "-q", "-T", port, "--", "sh", "-c", fetch},
		{"sh", "-c", attached, pasta, port, fetch},
	} {
		got, code := m.Host.Run(t, m.AsUser([]string{"PATH=" + podmanPath}, argv...)...)
		if got != hello+hello || code != 0 {
			t.Errorf("%q: exit code %d: %q", argv, code, got)
		}
	}
	waitGone(t, m, "busybox sleep 1007")
}

// TestPastaSignals ends it by signals: those that ask are no failure, and it leaves
// nothing, and SIGKILL takes the command with it.
func TestPastaSignals(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	for _, sig := range []string{"TERM", "QUIT", "KILL"} {
		p := m.Host.Start(t, m.AsUser([]string{"PATH=" + podmanPath}, pasta, "--config-net", "-q", "--", "sh", "-c", "echo runs; exec busybox sleep 1007")...)
		p.WaitLine(t, "runs")
		m.Host.Exec(t, "pkill", "-"+sig, "-x", "pasta")
		code := p.Wait(t)
		if want := map[string]bool{"TERM": true, "QUIT": true}[sig]; (code == 0) != want {
			t.Errorf("SIG%s: exit code %d", sig, code)
		}
		waitGone(t, m, "busybox sleep 1007")
	}
}

// waitGone waits until no process has these words.
func waitGone(t *testing.T, m *attachtest.Machine, words string) {
	t.Helper()
	attachtest.Eventually(t, "the end of "+words, func() bool {
		_, code := m.Host.Run(t, "pgrep", "-f", "-x", words)
		return code != 0
	})
}

// TestPastaUsage compares exit codes for command lines that are wrong.
func TestPastaUsage(t *testing.T) {
	both := pastas(t)
	for _, line := range []string{"--bogus", "-t 80000 1", "-t none -t 80 1", "-m 70000 1", "-a x 1", "-4 -6 1", "--netns /nonexistent", "-n 255.0.255.0 1"} {
		codes := map[string]int{}
		for name, pasta := range both {
			codes[name] = finish(t, exec.Command(pasta, append(strings.Fields(line), "-f")...)).code
			if strings.HasPrefix(line, "-") && strings.HasSuffix(line, " 1") {
				codes[name] = finish(t, exec.Command(pasta, slices.Concat([]string{"-f"}, strings.Fields(line))...)).code
			}
		}
		if codes["real"] != codes["ours"] {
			t.Errorf("%s: exit codes %v", line, codes)
		}
	}
}

// TestPastaLinkLocalGateway has a host whose IPv6 router has a link-local address, as
// most have: the container's routes lead there, and traffic both ways is carried.
func TestPastaLinkLocalGateway(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := attachtest.NewMachine(t)
	v6 := attachtest.Families()[1]
	m.Peer.Exec(t, "ip", "addr", "add", "fe80::77/64", "dev", "peer0", "nodad")
	m.Host.Exec(t, "ip", "-6", "route", "add", "default", "via", "fe80::77", "dev", "host0")
	peer := serveHTTP(t, m.Peer, v6.PeerAddr, []byte(hello))
	r, said := startPasta(t, m, pasta, "-t 18080-18080:8080-8080 -u none")
	if strings.TrimSpace(said) != "exit 0" {
		t.Fatalf("pasta: %s", said)
	}
	if got := r.run(t, "ip -6 route show default | cut -d' ' -f1-5"); got != "default via fe80::77 dev host0" {
		t.Errorf("the default route is %q", got)
	}
	if got := r.run(t, "busybox wget -q -O - http://"+peer+" 2>&1"); got != strings.TrimSpace(hello) {
		t.Errorf("a neighbour: %q", got)
	}
	r.say(t, "socat -d -d TCP6-LISTEN:8080,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR' >"+r.dir+"/log 2>&1 & echo over")
	r.proc.WaitLine(t, "done")
	r.waitFile(t, "log", "AF=10", 1)
	for _, from := range []*attachtest.Place{r.Peer, r.Host} {
		got := visitTCP(t, from, netip.AddrPortFrom(v6.HostAddr, 18080))
		// The host, whose address the container has, is the address that differs in a bit.
		if want := map[bool]string{true: "0000:0002", false: "0000:0000"}[from == r.Peer]; !strings.Contains(got, want) {
			t.Errorf("a client is seen as %q, want an end of %s", got, want)
		}
	}
	r.end(t)
}

// TestPastaAlone has a host without a default route.
func TestPastaAlone(t *testing.T) {
	pasta := pastas(t)["ours"]
	r, said := startPasta(t, attachtest.NewMachine(t), pasta, "-t none -u none")
	if strings.TrimSpace(said) != "exit 0" {
		t.Fatalf("pasta: %s", said)
	}
	if got := r.run(t, "ip -o -4 addr show tap0 | grep -o 'inet [^ ]*'; ip -4 route show default"); got != "inet 169.254.2.1/16\ndefault via 169.254.2.2 dev tap0" {
		t.Errorf("the container has %q", got)
	}
	r.end(t)
}

// TestPastaFiles has what it writes, and goes on without the file of the namespace where
// it is told to.
func TestPastaFiles(t *testing.T) {
	pasta := pastas(t)["ours"]
	m := newPastaMachine(t)
	dir := pastaDir(t)
	log, frames := filepath.Join(dir, "log"), filepath.Join(dir, "pcap")
	r, said := startPasta(t, m, pasta, "-t none -u none --pcap "+frames+" --no-netns-quit")
	if strings.TrimSpace(said) != "exit 0" {
		t.Fatalf("pasta: %s", said)
	}
	r.run(t, "ping -c 1 -W 1 10.97.0.2")
	r.run(t, "umount "+r.dir+"/netns-1")
	if out := m.Host.Exec(t, "pgrep", "-c", "-x", "pasta"); strings.TrimSpace(out) != "1" {
		t.Errorf("%s of it run, want 1", out)
	}
	m.Host.Exec(t, "pkill", "-TERM", "-x", "pasta")
	waitGone(t, m, ".*--no-netns-quit.*--netns.*--pid.*pid")
	// Podman asks for quiet, and nothing went wrong: another one has something to tell.
	m.Host.Exec(t, m.AsUser([]string{"PATH=" + podmanPath}, pasta, "--config-net", "--debug", "--log-file", log, "--", "true")...)
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), "sandbox") {
		t.Errorf("the log has %q, error %v", text, err)
	}
	if info, err := os.Stat(frames); err != nil || info.Size() <= 24 {
		t.Errorf("the capture is %v, error %v, want frames", info, err)
	}
}
