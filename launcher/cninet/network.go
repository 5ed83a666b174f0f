// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// ErrNoNetwork is what errors.Is finds in the error for a name that no configuration has.
var ErrNoNetwork = errors.New("no such network")

// extension is that of a file with a configuration.
const extension = ".conflist"

// maxConf bounds a configuration in bytes: real ones have some hundred.
const maxConf = 1 << 20

// find returns the configuration of the network, of the first of the directories that
// has one, and there of the first file by name. A file that is broken matters only where
// the network is not found elsewhere.
func find(name string, dirs []string) (*libcni.NetworkConfigList, error) {
	var broken []error
	for _, dir := range dirs {
		files, err := libcni.ConfFiles(dir, []string{extension})
		if err != nil {
			broken = append(broken, err)
		}
		slices.Sort(files)
		for _, file := range files {
			l, err := load(file)
			if err != nil {
				broken = append(broken, fmt.Errorf("%s: %w", file, err))
			} else if l.Name == name {
				return l, nil
			}
		}
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrNoNetwork, broken[0])
	}
	return nil, fmt.Errorf("%w: none of that name in %s: put its configuration there, or give --cni-dir", ErrNoNetwork, strings.Join(dirs, ", "))
}

// load reads a file.
func load(file string) (*libcni.NetworkConfigList, error) {
	st, err := os.Stat(file) // a FIFO is not opened
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxConf {
		return nil, fmt.Errorf("it is not a file of at most %d bytes", maxConf)
	}
	return libcni.NetworkConfFromFile(file)
}

// whole returns a configuration that has all its plugins in itself, which a list may
// also have in files of their own.
func whole(l *libcni.NetworkConfigList) ([]byte, error) {
	c := struct {
		CNIVersion string            `json:"cniVersion"`
		Name       string            `json:"name"`
		Plugins    []json.RawMessage `json:"plugins"`
	}{CNIVersion: l.CNIVersion, Name: l.Name}
	for _, p := range l.Plugins {
		c.Plugins = append(c.Plugins, p.Bytes)
	}
	return json.Marshal(c)
}

// takes reports whether a plugin of the network has the capability.
func takes(l *libcni.NetworkConfigList, capability string) bool {
	return slices.ContainsFunc(l.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// ConfDirs returns where configurations are looked for where the user names no
// directory: $NETCONFPATH, as the CNI project's own tool has it, then net.d of
// ~/.config/cni and of /etc/cni. getenv is normally os.Getenv.
func ConfDirs(getenv func(string) string) []string {
	dirs := filepath.SplitList(getenv("NETCONFPATH"))
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, "cni", "net.d"))
	} else if dir := getenv("HOME"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, ".config", "cni", "net.d"))
	}
	return append(dirs, "/etc/cni/net.d")
}

// PluginDirs returns where plugins are looked for: $CNI_PATH, beside this binary, and the
// usual places.
func PluginDirs(getenv func(string) string) []string {
	dirs := filepath.SplitList(getenv("CNI_PATH"))
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		dirs = append(dirs, filepath.Join(home, ".local", "lib", "cni"))
	}
	return append(dirs, "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
}

// absolute makes the directories those that they are from here.
func absolute(dirs []string) ([]string, error) {
	var all []string
	for _, d := range dirs {
		abs, err := filepath.Abs(d)
		if err != nil {
			return nil, fmt.Errorf("directory %s: %w", d, err)
		}
		all = append(all, abs)
	}
	return all, nil
}

// gone reports whether err says that there is nothing.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
