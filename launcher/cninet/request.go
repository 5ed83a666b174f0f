// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"github.com/slipway-net/slipway/launcher/userns"
)

// A Port is a port of the host that is to lead to one of the container, in the words of
// the capability portMappings (CONVENTIONS.md of the CNI project).
type Port struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp or udp
	// HostIP is the address to publish at; the zero Addr means all.
	HostIP netip.Addr `json:"hostIP,omitzero"`
}

// A Result is what plugins say of the container's network. It is a plain value.
type Result struct {
	Addrs    []netip.Prefix `json:"addrs"` // of its interfaces, those of lo left out
	Gateways []netip.Addr   `json:"gateways"`
	DNS      []netip.Addr   `json:"dns"` // name servers
	Search   []string       `json:"search"`
	Options  []string       `json:"options"` // of resolv.conf(5)
}

// Commands of a request.
const (
	add       = "ADD"
	del       = "DEL"
	namespace = "namespace" // make one, and run no plugins
)

// A request is what a stage is to do.
type request struct {
	Command string          `json:"command"`
	ID      string          `json:"id"` // CNI_CONTAINERID
	Conf    json.RawMessage `json:"conf"`
	Plugins []string        `json:"plugins"` // directories
	Cache   string          `json:"cache"`
	Ports   []Port          `json:"ports,omitempty"`
	Aliases []string        `json:"aliases,omitempty"`
	// NetNS is a descriptor of the stage's, for DEL; 0 is a namespace that is gone.
	NetNS   int               `json:"netns,omitempty"`
	Env     map[string]string `json:"env"`
	Mapping userns.Mapping    `json:"mapping"`
}

// A reply is what a stage has done.
type reply struct {
	Error  string `json:"error,omitempty"`
	NetNS  int    `json:"netns,omitempty"` // the stage's descriptor of the namespace it made
	Result Result `json:"result"`
}

// maxReply bounds a stage's words in bytes, and maxError those of an error, which a
// plugin may have made of anything.
const (
	maxReply = 1 << 20
	maxError = 2000
)

// variables are those of the caller's that plugins may need: where programs, and the
// caller's files, are.
var variables = [...]string{"PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR", "LANG", "TZ"}

// environment returns those that are set.
func environment() map[string]string {
	env := map[string]string{}
	for _, name := range variables {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	return env
}

// decode reads a reply.
func decode(b []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read what the plugins have done: %w", err)
	}
	return r, nil
}
