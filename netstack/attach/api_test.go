// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

// listen answers for a running session at a new socket.
func listen(t testing.TB, r *rig) (path string, api *attach.API) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "api")
	api, err := attach.Listen(path, r.s)
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return path, api
}

// TestAPI asks about flows on either path.
func TestAPI(t *testing.T) {
	t.Run(netstack.PathStacked, func(t *testing.T) {
		testAPI(t, start(t, func(cfg *attach.Config) { cfg.NoSplice = true }), netstack.PathStacked)
	})
	t.Run(netstack.PathSpliced, func(t *testing.T) {
		r := start(t, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			attachtest.Eventually(t, "TCP is spliced", func() bool {
				return strings.Contains(r.log.String(), `msg="TCP is spliced" family=`+f.Name)
			})
		})
		testAPI(t, r, netstack.PathSpliced)
	})
}

func testAPI(t *testing.T, r *rig, tcp string) {
	t.Helper()
	path, api := listen(t, r)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("the socket has mode %o, want 0600", got)
	}
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connect(t, f)
		if _, err := p.container.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.peer, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		peer := p.peer.LocalAddr().(*net.TCPAddr).AddrPort()
		want := []netstack.FlowInfo{{
			Proto: "tcp", Path: tcp, State: "open", Direction: netstack.DirectionOut, BytesUp: 1000,
			Container: p.container.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: peer, Host: peer,
		}}
		var got []netstack.FlowInfo
		ask(t, path, "flows", &got)
		got = pick(got, peer)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(netstack.FlowInfo{}, "ID", "Age", "Idle", "RTT"), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("flows (-want +got):\n%s", diff)
		}
	})
	var counters []netstack.Counter
	ask(t, path, "counters", &counters)
	values := map[string]uint64{}
	for _, c := range counters {
		values[c.Name] = c.Value
	}
	if values["flows_tcp"] != 2 || values["frames_in"] == 0 || values["bytes_out"] == 0 {
		t.Errorf("the counters miss what passed: %v", values)
	}
	if body, err := client.Dial(path).Get(t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), "there is no /v1/nothing") {
		t.Errorf("Get of an unknown thing: %v, %v, want 404", body, err)
	}
	if err := api.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

// TestAPICapture reads a capture while a second client asks for one.
func TestAPICapture(t *testing.T) {
	r := start(t, nil)
	path, _ := listen(t, r)
	c := client.Dial(path)
	body, err := c.Get(t.Context(), "pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := c.Get(t.Context(), "pcap"); !refused(err, http.StatusConflict) {
		t.Errorf("a second capture: %v, want 409", err)
	}
	p := r.connect(t, attachtest.Families()[0])
	exchange(t, p.container, p.peer)
	var head [24]byte
	if _, err := io.ReadFull(body, head[:]); err != nil {
		t.Fatal(err)
	}
	// pcap-savefile(5): the magic of nanosecond time stamps, and Ethernet.
	if magic, link := binary.NativeEndian.Uint32(head[:]), binary.NativeEndian.Uint32(head[20:]); magic != 0xa1b23c4d || link != 1 {
		t.Errorf("the file header has magic %#x and link type %d", magic, link)
	}
	for syn := false; !syn; {
		frame := readFrame(t, body)
		const tcpAt, flagsAt, synFlag = 23, 47, 0x02 // the protocol and TCP flags of a frame with IPv4
		syn = len(frame) > flagsAt && binary.BigEndian.Uint16(frame[12:]) == 0x0800 && frame[tcpAt] == 6 && frame[flagsAt] == synFlag
	}
	// A client that has left makes room for the next, when the capture has ended.
	body.Close()
	r.c.Exec(t, "ping", "-n", "-c", "1", r.plan.V4.Gateway.String())
	attachtest.Eventually(t, "the next client may capture", func() bool {
		b, err := c.Get(t.Context(), "pcap")
		if err == nil {
			b.Close()
		}
		return err == nil
	})
}

// readFrame reads one record of pcap-savefile(5).
func readFrame(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.NativeEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(r, frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// refused reports whether the API refused with the status.
func refused(err error, status int) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Status == status
}

// TestAPISilentClients holds up neither traffic nor Close.
func TestAPISilentClients(t *testing.T) {
	before := resources(t)
	t.Run("clients", func(t *testing.T) {
		r := start(t, nil)
		path, api := listen(t, r)
		body, err := client.Dial(path).Get(t.Context(), "pcap") // never read
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		for range 2 * unixhttp.DefaultClients { // more than are served at once
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("GET /v1/")); err != nil {
				t.Fatal(err)
			}
		}
		for range 8 {
			p := r.connect(t, attachtest.Families()[0])
			exchange(t, p.container, p.peer)
			exchange(t, p.peer, p.container)
		}
		if err := api.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	settle(t, before)
}

// ask decodes the API's answer.
func ask(t testing.TB, path, what string, into any) {
	t.Helper()
	body, err := client.Dial(path).Get(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		t.Fatalf("read %s: %v", what, err)
	}
}

// pick returns the flows to the destination.
func pick(flows []netstack.FlowInfo, dst netip.AddrPort) []netstack.FlowInfo {
	var picked []netstack.FlowInfo
	for _, f := range flows {
		if f.Remote == dst {
			picked = append(picked, f)
		}
	}
	return picked
}
