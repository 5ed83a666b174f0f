// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/netstack/dns"
)

func TestCheckResolvConf(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"OK", "search example\nnameserver 192.0.2.1\n", true},
		{"empty", "", false},
		{"only comments", "# nameserver 192.0.2.1\n", false},
		{"no address", "nameserver localhost\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := dns.CheckResolvConf(file); (err == nil) != c.ok {
				t.Errorf("CheckResolvConf: %v, want OK %v", err, c.ok)
			}
		})
	}
	if err := dns.CheckResolvConf(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file passes")
	}
}
