// SPDX-License-Identifier: Apache-2.0

package launcher

// Of the package's insides, what its tests look at.

// NewLegacy is New with mount(2) in place of fsopen(2) and its kin.
func NewLegacy(c Config) (*Container, error) { return newContainer(c, true) }

// EtcFiles returns what a container has in /etc, by path.
func EtcFiles(c Config) (map[string]string, error) {
	fs, err := etcFiles(c)
	m := make(map[string]string)
	for _, f := range fs {
		m[f.Path] = f.Content
	}
	return m, err
}

// LimitFiles are the files and controllers of limits.
func LimitFiles(l Limits) (map[string]string, []string) { return l.files() }

// NewCgroup makes a group and removes it.
func NewCgroup(own string, l Limits) error {
	g, err := newCgroup(own, "container", l, 1)
	if err == nil {
		g.close()
	}
	return err
}

// ReadMembership is readMembership.
func ReadMembership(text string) (path string, legacy []string) {
	m := readMembership(text)
	return m.path, m.legacy
}

// GroupDir is groupDir.
var GroupDir = groupDir
