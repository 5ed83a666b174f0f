// SPDX-License-Identifier: Apache-2.0

package launcher

import "io"

// Of the package's insides, what its tests look at.
const MaxFrame = maxFrame

// NewLegacy is New with mount(2) in place of fsopen(2) and its kin.
func NewLegacy(c Config) (*Container, error) { return newContainer(c, true) }

// ParseMountParents is parseMountParents.
func ParseMountParents(table string) map[string]bool { return parseMountParents(table) }

// SubIDs is subIDs.
func SubIDs(file []byte, name, uid string) int { return subIDs(file, name, uid) }

// WriteFrame writes a frame of any kind.
func WriteFrame(w io.Writer, kind byte, payload []byte) error {
	return writeFrame(w, frameKind(kind), payload)
}

// ReadFrame reads a frame.
func ReadFrame(r io.Reader) (byte, []byte, error) {
	k, p, err := readFrame(r)
	return byte(k), p, err
}

// DecodeOrder decodes a bundle as the init stage does, and returns the command.
func DecodeOrder(b []byte) ([]string, error) {
	d, err := decodeOrder(b)
	if err != nil {
		return nil, err
	}
	return d.Spec.Process.Args, nil
}

// EtcFiles returns what a container has in /etc, by path.
func EtcFiles(c Config) (map[string]string, error) {
	fs, err := etcFiles(c)
	m := make(map[string]string)
	for _, f := range fs {
		m[f.Path] = f.Content
	}
	return m, err
}
