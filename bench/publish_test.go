// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSlirpAnswer(t *testing.T) {
	tests := []struct{ name, in, err string }{
		{"done", `{"return": {"id": 1}}`, ""},
		{"refused", `{"error": {"desc": "bad request: add_hostfwd: slirp_add_hostfwd failed"}}`, "slirp_add_hostfwd failed"},
		{"neither", `{}`, "neither"},
		{"nothing", ``, "EOF"},
		{"no JSON", `add_hostfwd`, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := parseSlirpAnswer(json.NewDecoder(strings.NewReader(tt.in)))
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestSlirpPublish(t *testing.T) {
	j := job{Dir: t.TempDir()}
	l, err := net.Listen("unix", j.api())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var request json.RawMessage
		if err := json.NewDecoder(c).Decode(&request); err == nil {
			asked <- string(request)
			io.WriteString(c, `{"return": {"id": 1}}`)
		}
	}()
	if err := slirpPublish(t.Context(), j, publication{"udp", netip.IPv4Unspecified(), 53}); err != nil {
		t.Fatal(err)
	}
	want := `{"execute":"add_hostfwd","arguments":{"proto":"udp","host_addr":"0.0.0.0","host_port":53,"guest_addr":"10.0.2.100","guest_port":53}}`
	if diff := cmp.Diff(want, <-asked); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestRootlesskitPublish(t *testing.T) {
	j := job{Dir: t.TempDir()}
	if err := os.Mkdir(j.stateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(j.stateDir(), "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked []string
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		asked = append(asked, r.Method+" "+r.URL.Path+" "+string(b))
		if len(asked) > 1 {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"message":"address already in use"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	p := publication{"tcp", netip.IPv4Unspecified(), 80}
	if err := rootlesskitPublish(t.Context(), j, p); err != nil {
		t.Fatal(err)
	}
	if err := rootlesskitPublish(t.Context(), j, p); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("error %v, want what the API said", err)
	}
	want := []string{
		`POST /v1/ports {"proto":"tcp","parentIP":"0.0.0.0","parentPort":80,"childPort":80}`,
		`POST /v1/ports {"proto":"tcp","parentIP":"0.0.0.0","parentPort":80,"childPort":80}`,
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestPublications(t *testing.T) {
	var got []string
	for _, c := range publishCases() {
		for _, p := range c.(publisher).publications(6) {
			got = append(got, c.Name()+" "+p.String())
		}
	}
	want := []string{}
	for _, where := range []string{"remote", "loopback"} {
		for _, line := range []string{
			"tcp/up [::]:7001/tcp", "tcp/down [::]:7001/tcp",
			"connect/1 [::]:7001/tcp", "connect/1 [::]:7002/tcp", "connect/1 [::]:7003/tcp", "connect/1 [::]:7004/tcp",
			"connect/16 [::]:7001/tcp", "connect/16 [::]:7002/tcp", "connect/16 [::]:7003/tcp", "connect/16 [::]:7004/tcp",
			"udp/1400 [::]:7101/udp", "udp/1400 [::]:7001/tcp",
		} {
			want = append(want, "publish/"+where+"/"+line)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("publications (-want +got):\n%s", diff)
	}
}

func TestIDTools(t *testing.T) {
	tools := idTools("/a b/it's")
	want := map[string]string{
		"newuidmap": `exec '/a b/it'\''s' stage:idmap uid_map "$@"`,
		"newgidmap": `exec '/a b/it'\''s' stage:idmap gid_map "$@"`,
		"getsubids": `echo "0: $1 1 0"`,
	}
	if diff := cmp.Diff(want, tools); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
	if err := mapIDs([]string{"uid_map", "1", "0"}); err == nil {
		t.Error("no error without a range")
	}
}

func TestNoPublishFlagIsAReason(t *testing.T) {
	output, out, err := newOutputPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.close()
	go output.collect()
	if _, err := out.WriteString("slipway: usage: unknown flag: --publish\n"); err != nil {
		t.Fatal(err)
	}
	out.Close()
	h := &helper{tool: tools()["slipway"], argv: []string{"/x/slipway"}, output: output, exited: make(chan struct{})}
	if got := h.explain(io.EOF).Error(); !strings.Contains(got, "unknown flag") {
		t.Errorf("without ports to publish: %q, want what it said", got)
	}
	h.job.Publish = []publication{{"tcp", netip.IPv4Unspecified(), 80}}
	if got, want := h.explain(io.EOF).Error(), "this slipway does not publish ports"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}
