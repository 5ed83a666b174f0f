// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

// do makes a request and returns the status and the body.
func do(t testing.TB, h *Handler, method, path, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestRootlessKit has the requests of RootlessKit's clients, and what they read of
// the replies.
func TestRootlessKit(t *testing.T) {
	table := newFakeTable()
	h := New(table)
	if code, body := do(t, h, "GET", "/v1/ports", ""); code != 200 || body != "[]\n" {
		t.Errorf("list: %d %q, want an empty array", code, body)
	}
	type status struct {
		ID   int `json:"id"`
		Spec struct {
			Proto      string `json:"proto,omitempty"`
			ParentIP   string `json:"parentIP,omitempty"`
			ParentPort int    `json:"parentPort,omitempty"`
			ChildPort  int    `json:"childPort,omitempty"`
			ChildIP    string `json:"childIP,omitempty"`
		} `json:"spec"`
	}
	var want []status
	for i, tt := range []struct{ spec, rule string }{
		{`{"proto":"tcp","parentIP":"0.0.0.0","parentPort":8080,"childPort":80}`, "8080:80/tcp"},
		{`{"proto":"tcp","parentIP":"","parentPort":8081,"childPort":80}`, "8081:80/tcp"},
		{`{"proto":"udp","parentIP":"::","parentPort":8081,"childPort":80}`, "8081:80/udp"},
		{`{"proto":"tcp4","parentIP":"0.0.0.0","parentPort":8082,"childIP":"10.0.2.100","childPort":8082}`, "0.0.0.0:8082:10.0.2.100:8082/tcp"},
		{`{"proto":"tcp6","parentIP":"::","parentPort":8082,"childIP":"10.0.2.100","childPort":8082}`, "[::]:8082:10.0.2.100:8082/tcp"},
		{`{"proto":"udp6","parentPort":53,"childPort":53}`, "[::]:53:53/udp"},
		{`{"proto":"udp4","parentPort":53,"childPort":53}`, "0.0.0.0:53:53/udp"},
		{`{"proto":"tcp","parentIP":"127.0.0.2","parentPort":81,"childIP":"127.0.0.1","childPort":81}`, "127.0.0.2:81:81/tcp,loopback"},
		{`{"proto":"tcp6","parentIP":"::1","parentPort":81,"childIP":"::1","childPort":81}`, "[::1]:81:81/tcp,loopback"},
	} {
		code, body := do(t, h, "POST", "/v1/ports", tt.spec)
		var s status
		if err := json.Unmarshal([]byte(`{"id":`+fmt.Sprint(i+1)+`,"spec":`+tt.spec+`}`), &s); err != nil {
			t.Fatal(err)
		}
		want = append(want, s)
		var got status
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != 201 {
			t.Fatalf("add %s: %d %s", tt.spec, code, body)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("add %s (-want +got):\n%s", tt.spec, diff)
		}
		if got := table.ports[i].String(); got != tt.rule {
			t.Errorf("%s became the rule %s, want %s", tt.spec, got, tt.rule)
		}
	}
	code, body := do(t, h, "GET", "/v1/ports", "")
	var got []status
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatalf("list: %d %s", code, body)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if code, body := do(t, h, "DELETE", "/v1/ports/1", ""); code != 200 || body != "" {
		t.Errorf("remove: %d %q, want 200 and nothing", code, body)
	}
	if code, body := do(t, h, "DELETE", "/v1/ports/1", ""); code/100 == 2 || !strings.Contains(body, `"message"`) {
		t.Errorf("remove again: %d %q, want a message", code, body)
	}
	do(t, h, "GET", "/v1/ports", "")
	if len(h.specs) != len(want)-1 {
		t.Errorf("%d specs are remembered, want %d", len(h.specs), len(want)-1)
	}
}

func TestAddSeveral(t *testing.T) {
	table := newFakeTable()
	h := New(table)
	code, body := do(t, h, "POST", "/v1/ports",
		`["9000-9001:80-81", {"proto":"udp","childPort":53,"interface":"eth0"}, "[::1]:0:443/tcp,defer"]`)
	var got []Port
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusCreated {
		t.Fatalf("add: %d %s", code, body)
	}
	want := []Port{
		{ID: 1, Spec: Spec{Proto: "tcp", ParentPort: 9000, ChildPort: 80}, Rule: "9000:80/tcp", Proto: "tcp", Host: ":9000", Container: ":80"},
		{ID: 2, Spec: Spec{Proto: "tcp", ParentPort: 9001, ChildPort: 81}, Rule: "9001:81/tcp", Proto: "tcp", Host: ":9001", Container: ":81"},
		{ID: 3, Spec: Spec{Proto: "udp", ParentPort: 40000, ChildPort: 53, Interface: "eth0"}, Rule: "%eth0:40000:53/udp", Proto: "udp", Host: ":40000", Container: ":53"},
		{ID: 4, Spec: Spec{Proto: "tcp", ParentIP: "::1", ParentPort: 40001, ChildPort: 443, Defer: true}, Rule: "[::1]:40001:443/tcp,defer", Proto: "tcp", Host: "[::1]:40001", Container: ":443"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("add (-want +got):\n%s", diff)
	}
	// What the API shows can be asked for again.
	for _, p := range got {
		rule, err := p.Spec.Rule()
		if err != nil || rule.String() != p.Rule {
			t.Errorf("the spec of %s stands for %s, %v", p.Rule, rule, err)
		}
	}
	code, body = do(t, h, "GET", "/v1/ports/3", "")
	var one Port
	if err := json.Unmarshal([]byte(body), &one); err != nil || code != 200 || one != want[2] {
		t.Errorf("get: %d %s", code, body)
	}
	if code, body := do(t, h, "DELETE", "/v1/ports?rule=9000-9001:80-81&id=4&id=4&cut=true", ""); code != 200 || body != "" {
		t.Errorf("remove: %d %s", code, body)
	}
	if diff := cmp.Diff([]int{1, 2, 4}, table.cut); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	if left := table.Ports(); len(left) != 1 || left[0].ID != 3 {
		t.Errorf("left: %v", left)
	}
	if code, body := do(t, h, "DELETE", "/v1/ports/3?cut=false", ""); code != 200 || len(table.Ports()) > 0 || len(table.cut) != 3 {
		t.Errorf("remove without cut: %d %s, cut %v", code, body, table.cut)
	}
}

// TestSpecOf has ports that nobody asked for by a Spec.
func TestSpecOf(t *testing.T) {
	for _, word := range []string{"8080:80/tcp", "0.0.0.0:1:1/udp", "[::]:1:1/tcp", "192.0.2.1:1:10.0.2.7:2/tcp", "[2001:db8::1]%eth0:1:[fd00::7]:2/udp", "1:1/tcp,loopback", "1:1/tcp,defer"} {
		rule, err := portfwd.ParseRule(word)
		if err != nil {
			t.Fatal(err)
		}
		added, err := newFakeTable().Add(t.Context(), []portfwd.Rule{rule})
		if err != nil {
			t.Fatal(err)
		}
		got, err := specOf(added[0]).Rule()
		if err != nil || got != rule {
			t.Errorf("%s: the spec %+v stands for %s, %v", word, specOf(added[0]), got, err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	table := newFakeTable()
	h := New(table)
	if code, body := do(t, h, "POST", "/v1/ports", `"8080:80"`); code != 201 {
		t.Fatalf("add: %d %s", code, body)
	}
	for _, tt := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", "/v1/ports", ``, 400, "no end"},
		{"POST", "/v1/ports", `{"proto":"tcp"`, 400, "no end"},
		{"POST", "/v1/ports", `nonsense`, 400, "JSON"},
		{"POST", "/v1/ports", `{} {}`, 400, "behind"},
		{"POST", "/v1/ports", `17`, 400, "want a rule"},
		{"POST", "/v1/ports", `null`, 400, "want a rule"},
		{"POST", "/v1/ports", `[]`, 400, "no rule"},
		{"POST", "/v1/ports", `["1:1", null]`, 400, "rule 2"},
		{"POST", "/v1/ports", `[["1:1"]]`, 400, "rule 1"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":1,"childPort":1,"colour":"red"}`, 400, `"colour"`},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":"1","childPort":1}`, 400, "parentPort: want a whole number, not a string"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":1.5,"childPort":1}`, 400, "parentPort"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":1e99,"childPort":1}`, 400, "parentPort"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":70000,"childPort":1}`, 400, "70000"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":-1,"childPort":1}`, 400, "-1"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":1,"childPort":0}`, 400, "childPort"},
		{"POST", "/v1/ports", `{"proto":"sctp","parentPort":1,"childPort":1}`, 400, "sctp"},
		{"POST", "/v1/ports", `{"proto":"tcp46","parentPort":1,"childPort":1}`, 400, "tcp46"},
		{"POST", "/v1/ports", `{"parentPort":1,"childPort":1}`, 400, "proto"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentIP":"host","parentPort":1,"childPort":1}`, 400, "parentIP"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentIP":"fe80::1%eth0","parentPort":1,"childPort":1}`, 400, "zone"},
		{"POST", "/v1/ports", `{"proto":"tcp4","parentIP":"::1","parentPort":1,"childPort":1}`, 400, "tcp4"},
		{"POST", "/v1/ports", `{"proto":"tcp6","parentIP":"0.0.0.0","parentPort":1,"childPort":1}`, 400, "tcp6"},
		{"POST", "/v1/ports", `{"proto":"tcp","childIP":"1.2.3","parentPort":1,"childPort":1}`, 400, "childIP"},
		{"POST", "/v1/ports", `{"proto":"udp","parentPort":1,"childPort":1,"defer":true}`, 400, "defer"},
		{"POST", "/v1/ports", `{"proto":"tcp","parentPort":1,"childPort":1,"defer":"yes"}`, 400, "defer: want a true or false"},
		{"POST", "/v1/ports", `["1:1", "9-8:1-2"]`, 400, "rule 2"},
		{"POST", "/v1/ports", `["1:1", "8080:81"]`, 409, "8080"},
		{"POST", "/v1/ports", `["5:1", "5:2"]`, 409, "port 5"},
		{"POST", "/v1/ports", `"` + strings.Repeat("x", unixhttp.MaxBody) + `"`, 413, "more than"},
		{"GET", "/v1/ports/2", ``, 404, "2"},
		{"GET", "/v1/ports/x", ``, 400, `"x"`},
		{"PUT", "/v1/ports", ``, 405, "PUT"},
		{"POST", "/v1/ports/1", ``, 405, "POST"},
		{"GET", "/v1/ports/1/2", ``, 404, "/v1/ports/1/2"},
		{"DELETE", "/v1/ports/0", ``, 400, `"0"`},
		{"DELETE", "/v1/ports/99999999999999999999", ``, 400, "99999999999999999999"},
		{"DELETE", "/v1/ports/2", ``, 404, "2"},
		{"DELETE", "/v1/ports/1?cut=maybe", ``, 400, "maybe"},
		{"DELETE", "/v1/ports/1?id=1", ``, 400, `"id"`},
		{"DELETE", "/v1/ports/1?cut", ``, 400, "cut"},
		{"DELETE", "/v1/ports", ``, 400, "name the ports"},
		{"DELETE", "/v1/ports?id=1&id=2", ``, 404, "2"},
		{"DELETE", "/v1/ports?id=one", ``, 400, `"one"`},
		{"DELETE", "/v1/ports?all=true", ``, 400, `"all"`},
		{"DELETE", "/v1/ports?rule=8080", ``, 400, "ID"},
		{"DELETE", "/v1/ports?rule=8080:81", ``, 404, "8080:81/tcp"},
		{"DELETE", "/v1/ports?rule=8080:80/udp", ``, 404, "8080:80/udp"},
		{"DELETE", "/v1/ports?rule=8080-8081:80-81", ``, 404, "8081:81/tcp"},
		{"DELETE", "/v1/ports?rule=a:b", ``, 400, "a:b"},
		{"DELETE", "/v1/ports?%zz", ``, 400, "query"},
	} {
		code, body := do(t, h, tt.method, tt.path, tt.body)
		var f struct{ Message string }
		if err := json.Unmarshal([]byte(body), &f); err != nil || code != tt.code || !strings.Contains(f.Message, tt.want) || strings.Contains(f.Message, "\n") {
			t.Errorf("%s %s %.80s: %d %s, want %d and one line with %q", tt.method, tt.path, tt.body, code, body, tt.code, tt.want)
		}
	}
	if ports := table.Ports(); len(ports) != 1 {
		t.Errorf("%d ports are published after all that, want 1", len(ports))
	}
}

func TestContentType(t *testing.T) {
	for kind, want := range map[string]int{
		"": 201, "application/json": 201, "Application/JSON; charset=utf-8": 201, "application/x-www-form-urlencoded": 201,
		"text/xml": 415, "multipart/form-data": 415, "nonsense/": 415,
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/ports", strings.NewReader(`"1:1"`))
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		New(newFakeTable()).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d %s, want %d", kind, w.Code, w.Body, want)
		}
	}
}

func TestStatus(t *testing.T) {
	h := New(newFakeTable())
	for err, want := range map[error]int{
		portfwd.ErrInUse: 409, portfwd.ErrPrivileged: 403, portfwd.ErrNotOurs: 422, portfwd.ErrNoPort: 404,
		portfwd.ErrTooMany: 507, portfwd.ErrRule: 400, portfwd.ErrNoInterface: 422, portfwd.ErrClosed: 503,
		portfwd.ErrNoLoopback: 422, context.DeadlineExceeded: 504, errors.New("other"): 400,
	} {
		h.table.(*fakeTable).fail = fmt.Errorf("port 80: %w", err)
		code, body := do(t, h, "POST", "/v1/ports", `"1:1"`)
		if code != want || !strings.Contains(body, "port 80: ") {
			t.Errorf("%v: %d %s, want %d", err, code, body, want)
		}
		if s := Sentinel(want); want != 400 && want != 422 && !errors.Is(err, s) || want == 400 && s != nil {
			t.Errorf("%d stands for %v, want %v", want, s, err)
		}
	}
}

// TestClientLeaves has a change carried out whose client has left.
func TestClientLeaves(t *testing.T) {
	table := newFakeTable()
	table.hold = make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/ports", strings.NewReader(`"1:1"`))
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(table).ServeHTTP(httptest.NewRecorder(), r)
	}()
	leave()
	close(table.hold)
	<-done
	if len(table.Ports()) != 1 {
		t.Error("the port is not published")
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"proto":"tcp","parentIP":"0.0.0.0","parentPort":8080,"childIP":"127.0.0.1","childPort":80}`,
		`["1-9:1-9","[::1]%lo:0:[fd00::7]:80/udp,loopback",{"proto":"udp6","childPort":1,"interface":"eth0","defer":true}]`,
		`"8080:80"`, ` [ ] `, `[null]`, `{"proto":"tcp","x":1}`, `{"proto":1}`, "\"\\ud800\"", `{}{}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseRequest(body)
		if err != nil {
			if err.Error() == "" || len(q.rules) != len(q.specs) {
				t.Errorf("%q: error %q, %+v", body, err, q)
			}
			return
		}
		if len(q.rules) == 0 || len(q.rules) != len(q.specs) || q.single && len(q.rules) != 1 {
			t.Fatalf("%q: %+v", body, q)
		}
		for i, r := range q.rules {
			if err := r.Check(); err != nil {
				t.Errorf("%q: rule %d is none: %v", body, i+1, err)
			}
		}
		// A request says the same when it is written again.
		var again []any
		for i, r := range q.rules {
			if again = append(again, r.String()); q.specs[i] != nil {
				again[i] = q.specs[i]
			}
		}
		text, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseRequest(bytes.TrimSpace(text))
		if err != nil {
			t.Fatalf("%q written as %q: %v", body, text, err)
		}
		if diff := cmp.Diff(rules(q), rules(back)); diff != "" {
			t.Errorf("%q written as %q (-first +again):\n%s", body, text, diff)
		}
	})
}

func rules(q request) []string {
	var words []string
	for _, r := range q.rules {
		words = append(words, r.String())
	}
	return words
}
