// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"
)

// A Status is where a container is in its life.
type Status string

// The states a container can be in.
const (
	Created Status = "created" // its command does not run yet
	Running Status = "running"
	Exited  Status = "exited"
)

// A Record is what is written down of a container. Its supervisor writes it.
type Record struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"` // empty if the user gave none
	// Image is the user's word for the root; empty for the host's.
	Image string `json:"image,omitempty"`
	// Layer is the directory of what the container writes over its image, absolute;
	// empty if that is thrown away with its mounts.
	Layer   string            `json:"layer,omitempty"`
	Args    []string          `json:"args"` // the command in the container
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	// Started is when the command was executed; zero before that.
	Started    time.Time `json:"started,omitzero"`
	BootID     string    `json:"boot_id"`
	Supervisor Process   `json:"supervisor"`
	Init       Process   `json:"init,omitzero"` // pid 1 of the container; zero before Started

	Net   string   `json:"net"`             // the network mode
	Ports []string `json:"ports,omitempty"` // the rules of --publish
	// Addrs are the container's addresses where plugins have chosen them.
	Addrs []netip.Prefix `json:"addrs,omitempty"`
	// UIDs and GIDs say which of the host's ids the container's are.
	UIDs []Mapping `json:"uids,omitempty"`
	GIDs []Mapping `json:"gids,omitempty"`
	// Slice are those that it alone has, of --userns=auto.
	Slice Slice `json:"slice,omitzero"`

	// Run is how the user started it, for starting it again.
	Run Invocation `json:"run"`
	// StopSignal is the number of the signal that asks the command to end.
	StopSignal int `json:"stop_signal"`
	// Detached says that the streams are the log's.
	Detached bool `json:"detached,omitempty"`
	TTY      bool `json:"tty,omitempty"`
	// Keep says that the container stays when it has ended, until it is removed.
	Keep bool `json:"keep,omitempty"`
}

// A Mapping maps Size ids from Host on to those from Container on.
type Mapping struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// A Slice is Size of the user's subordinate ids, from the one numbered Offset on. The zero
// Slice is none.
type Slice struct {
	Offset uint32 `json:"offset"`
	Size   uint32 `json:"size"`
}

// An Invocation is a command line and what its meaning depends on.
type Invocation struct {
	Args []string          `json:"args"` // the words behind "run"
	Dir  string            `json:"dir"`  // the working directory
	Env  map[string]string `json:"env,omitempty"`
}

// An Exit is how a container ended.
type Exit struct {
	Code     int       `json:"code"`
	Finished time.Time `json:"finished,omitzero"`
	OOM      bool      `json:"oom,omitempty"`   // the kernel ran out of memory for it
	Error    string    `json:"error,omitempty"` // what failed besides the command
}

// codeLost is the code of a container whose supervisor was killed: 128 plus
// SIGKILL, which is what the kernel sends the container then.
const codeLost = 137

// A Container is what can be known of one.
type Container struct {
	Record
	Status Status `json:"status"`
	Exit   *Exit  `json:"exit,omitempty"` // nil unless Exited
}

// Lengths of ids, in characters.
const (
	idBytes = 16 // random, two digits each
	// ShortID is the length of an id as people read it.
	ShortID = 12
)

// NewID returns a random id: 32 hexadecimal digits.
func NewID() string {
	b := make([]byte, idBytes)
	rand.Read(b) // never fails: crypto/rand.Read
	return hex.EncodeToString(b)
}

// Short returns the first 12 digits of the id.
func (r *Record) Short() string { return r.ID[:min(len(r.ID), ShortID)] }

// DisplayName returns the name, or the short id of a container without one.
func (r *Record) DisplayName() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Short()
}

// maxName is the longest name in bytes, short enough for any file system and for a
// column of `slipway ps`.
const maxName = 128

// CheckName takes what Podman takes for the name of a container: letters, digits,
// and inside of it underscores, dots and hyphens.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && (r == '_' || r == '.' || r == '-'))
	}
	if !ok {
		return fmt.Errorf("name %q: want letters, digits, and inside of it '_', '.' and '-', at most %d", name, maxName)
	}
	return nil
}

// isID reports whether s can be an id or the beginning of one.
func isID(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return s != "" && len(s) <= 2*idBytes
}
