// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func countFiles(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

// TestChildKilled kills the child after it has opened a file, and proves that
// the parent learns of both.
func TestChildKilled(t *testing.T) {
	before := countFiles(t)
	s, err := newScript()
	if err != nil {
		t.Fatal(err)
	}
	s.open("open a file", regTap, "/dev/null", unix.O_RDONLY)
	s.add("get the id", step{op: opCall, call: unix.SYS_GETPID, in: noReg, out: regInner})
	s.add("kill the child", step{op: opCall, call: unix.SYS_KILL, args: [4]uintptr{0, uintptr(unix.SIGKILL)}, in: regInner, out: noReg})
	s.call("never run", unix.SYS_GETPID, [4]uintptr{})
	if err := s.run(); err == nil || !strings.Contains(err.Error(), "SIGKILL") {
		t.Errorf("run: %v, want an error that names SIGKILL", err)
	}
	s.take(regInner) // it is no descriptor here
	s.close()
	if after := countFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestScriptTooLong proves that a script that does not fit is not run.
func TestScriptTooLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(s *script)
	}{
		{"steps", func(s *script) {
			for range maxSteps + 1 {
				s.call("get the id", unix.SYS_GETPID, [4]uintptr{})
			}
		}},
		{"buffers", func(s *script) { s.buffer(arenaSize + 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newScript()
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			tt.fill(s)
			if err := s.run(); err == nil {
				t.Error("run succeeded")
			}
		})
	}
}

// TestProbeFails proves that a probe notices what the kernel does not have.
func TestProbeFails(t *testing.T) {
	s, err := newScript()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.unshare()
	rule := probes()[0].rule(nftFamilies[0])
	j := s.probe("make a rule", unix.NETLINK_NETFILTER, rule.batch(nftFamilies[0]))
	rule.exprs = []expr{{"nosuch", nil}}
	i := s.probe("make a rule", unix.NETLINK_NETFILTER, rule.batch(nftFamilies[0]))
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if err := s.failed(i); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a rule with an unknown expression: %v, want %v", err, unix.ENOENT)
	}
	if err := s.failed(j); err != nil {
		t.Errorf("a plain rule after it: %v", err)
	}
}
