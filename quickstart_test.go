// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// quickStart are the commands of README's section about containers.
func quickStart(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Start containers")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for i, part := range strings.Split(section, "```") {
		if block, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			commands = append(commands, strings.Split(strings.TrimSpace(block), "\n")...)
		}
	}
	return commands
}

// sh runs a command line of the user, in the directory where bin/slipway is, and returns
// what it printed.
func (u *imageUser) sh(t *testing.T, line string) string {
	t.Helper()
	got := u.run(t, "sh", "-c", line)
	if got.code != 0 {
		t.Fatalf("%s: %+v", line, got)
	}
	return strings.TrimSuffix(got.stdout, "\n")
}

// follow starts a command line that goes on.
func (u *imageUser) follow(t *testing.T, line string) *attachtest.Process {
	t.Helper()
	return u.Host.Start(t, u.AsUser(u.env, "sh", "-c", `cd "$1" && eval "exec $2"`, "sh", u.dir, line)...)
}

// A typist is at the terminal of a command.
type typist struct {
	*attachtest.Process
	keys *os.File
}

// terminal starts a command line at a terminal.
func (u *imageUser) terminal(t *testing.T, line string) *typist {
	t.Helper()
	fifo := filepath.Join(u.dir, "keys")
	_ = os.Remove(fifo) // that of another
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := u.follow(t, "script -qefc '"+line+"' /dev/null <keys")
	keys, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	hangs := time.AfterFunc(attachtest.Patience, p.Kill) // then it says no more, and the test fails
	t.Cleanup(func() { hangs.Stop() })
	return &typist{p, keys}
}

// answers waits until the command asks, and types what it is told.
func (p *typist) answers(t *testing.T, question, answer string) {
	t.Helper()
	var seen strings.Builder
	for !strings.HasSuffix(seen.String(), question) {
		b, err := p.Out.ReadByte()
		if err != nil {
			t.Fatalf("it ended before it asked %q: %s", question, &seen)
		}
		seen.WriteByte(b)
	}
	fmt.Fprintln(p.keys, answer)
}

// ends waits for the end of the command.
func (p *typist) ends(t *testing.T) {
	t.Helper()
	p.WaitLine(t, "exit")
	for {
		if _, err := p.Out.ReadString('\n'); err != nil {
			break
		}
	}
	if code := p.Wait(t); code != 0 {
		t.Errorf("it ended with code %d", code)
	}
}

// TestQuickStart does as README says, with images of nginx and PostgreSQL that are made of
// Debian's packages, and looks at what README promises.
func TestQuickStart(t *testing.T) {
	attachtest.NeedTools(t, "curl", "wrk", "script")
	u := newImageUser(t)
	u.loadDebImages(t)
	if err := os.Mkdir(filepath.Join(u.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(u.dir, "bin/slipway")); err != nil {
		t.Fatal(err)
	}
	steps := slices.Concat(webSteps(), databaseSteps())
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.line)
	}
	if diff := cmp.Diff(quickStart(t), lines); diff != "" {
		t.Errorf("README's commands are not those of this test (-README +test):\n%s", diff)
	}
	for _, s := range steps {
		s.do(t, u, s.line)
	}
}

// A quickStep is a command of README's, and how a user looks at what it does.
type quickStep struct {
	line string
	do   func(t *testing.T, u *imageUser, line string)
}

// stepPrints is a step whose command prints what is wanted.
func stepPrints(line, want string) quickStep {
	return quickStep{line, func(t *testing.T, u *imageUser, line string) {
		if got := u.sh(t, line); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}}
}

func webSteps() []quickStep {
	return []quickStep{
		stepPrints("bin/slipway run -d --name web -p 8080:80 docker.io/library/nginx", ""),
		{"curl http://127.0.0.1:8080/", func(t *testing.T, u *imageUser, line string) {
			attachtest.Eventually(t, "the server answers", func() bool { return u.run(t, "sh", "-c", line).stdout == "hello from nginx\n" })
		}},
		stepPrints("bin/slipway ps", "docker.io/library/nginx"),
		{"bin/slipway exec -it web sh", func(t *testing.T, u *imageUser, line string) {
			before := u.workers(t)
			sh := u.terminal(t, line)
			sh.answers(t, "# ", "nginx -s reload")
			sh.answers(t, "# ", "exit")
			sh.ends(t)
			attachtest.Eventually(t, "the server has other workers", func() bool {
				now := u.workers(t)
				return len(now) > 0 && !slices.ContainsFunc(now, func(pid string) bool { return slices.Contains(before, pid) })
			})
		}},
		{"bin/slipway logs -f web", webClients},
		{"bin/slipway cp web:/etc/nginx/nginx.conf .", func(t *testing.T, u *imageUser, line string) {
			u.sh(t, line)
			if b, err := os.ReadFile(filepath.Join(u.dir, "nginx.conf")); err != nil || !strings.Contains(string(b), "user www-data") {
				t.Errorf("nginx.conf: %q, %v", b, err)
			}
		}},
		{"bin/slipway stop web && bin/slipway rm web", webAgain},
	}
}

// workers are the processes of the server that do the work.
func (u *imageUser) workers(t *testing.T) []string {
	t.Helper()
	return strings.Fields(u.sh(t, "bin/slipway exec web sh -c 'grep -l nginx:.worker /proc/[0-9]*/cmdline || true'"))
}

// webClients has clients of another machine load the server, whose log has their own
// addresses and no others. What is asked of it is done by its workers, who are not root.
func webClients(t *testing.T, u *imageUser, line string) {
	logs := u.follow(t, line)
	logs.WaitLine(t, "10.0.2.2 - - ") // a client on this machine has no address that the container could answer
	for _, f := range attachtest.Families() {
		url := "http://" + netip.AddrPortFrom(f.HostAddr, 8080).String() + "/"
		if n := requests(t, f.Name, u.Peer.Start(t, "wrk", "--threads", "1", "--connections", "8", "--duration", "1", url)); n == 0 {
			t.Errorf("%s: no request was served", f.Name)
		}
		logs.WaitLine(t, f.PeerAddr.String()+" - - ")
	}
	if got := u.sh(t, "bin/slipway exec web sh -c 'stat -c %U /proc/[0-9]*'"); !strings.Contains(got, "www-data") || !strings.Contains(got, "root") {
		t.Errorf("processes of %q, want some of www-data", strings.Fields(got))
	}
	logs.Kill()
}

// webAgain ends the server, which is asked by the signal that the image names; starts it
// again, with what it had; and does as README says.
func webAgain(t *testing.T, u *imageUser, line string) {
	u.sh(t, "bin/slipway exec web sh -c 'echo changed >/var/www/html/index.html'")
	if got := u.sh(t, "bin/slipway inspect web"); !strings.Contains(got, `"stop_signal": 3,`) {
		t.Errorf("nginx is not asked to end by SIGQUIT: %s", got)
	}
	u.sh(t, "bin/slipway stop web")
	if got := u.sh(t, "bin/slipway ps -a"); !strings.Contains(got, "exited (0)") {
		t.Errorf("ps -a: %s", got)
	}
	u.sh(t, "bin/slipway start web")
	attachtest.Eventually(t, "the server has what was written before", func() bool {
		return u.run(t, "curl", "http://127.0.0.1:8080/").stdout == "changed\n"
	})
	u.sh(t, line)
}

func databaseSteps() []quickStep {
	const ask = "bin/slipway run --rm -it --network shop docker.io/library/postgres psql -h db -U postgres"
	return []quickStep{
		{"bin/slipway run -d --network shop --name db -e POSTGRES_PASSWORD=secret -v data:/var/lib/postgresql/data docker.io/library/postgres", func(t *testing.T, u *imageUser, line string) {
			u.database(t, line)
			askDatabase(t, u, ask, "create table t (x text); insert into t values ('kept');", "INSERT 0 1")
			u.sh(t, "bin/slipway stop db")
			if got := u.sh(t, "bin/slipway logs db 2>&1"); !strings.Contains(got, "received fast shutdown request") {
				t.Errorf("PostgreSQL was not asked to end by SIGINT: %s", got)
			}
			u.sh(t, "bin/slipway rm db")
			u.database(t, line)
		}},
		{ask, func(t *testing.T, u *imageUser, line string) {
			askDatabase(t, u, line, "select x from t;", "kept")
			if got := u.sh(t, "bin/slipway exec db id -un"); got != "postgres" {
				t.Errorf("exec is %q, want the image's user", got)
			}
			u.sh(t, "bin/slipway rm -f db")
		}},
	}
}

// database starts one, and waits until it is ready.
func (u *imageUser) database(t *testing.T, line string) {
	t.Helper()
	u.sh(t, line)
	attachtest.Eventually(t, "the database is ready", func() bool {
		logs := u.sh(t, "bin/slipway logs db 2>&1")
		if u.sh(t, "bin/slipway ps -q -f name=db") == "" {
			t.Fatalf("the database does not start: %s", logs)
		}
		return strings.Contains(logs, "ready to accept connections")
	})
}

// askDatabase has a client at a terminal give its password and a query.
func askDatabase(t *testing.T, u *imageUser, line, query, want string) {
	t.Helper()
	psql := u.terminal(t, line)
	psql.answers(t, "Password for user postgres: ", "secret")
	psql.answers(t, "postgres=# ", query)
	psql.WaitLine(t, want)
	psql.answers(t, "postgres=# ", `\q exit`)
	psql.ends(t)
}
