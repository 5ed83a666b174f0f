// SPDX-License-Identifier: Apache-2.0

package getopt

import (
	"fmt"
	"strings"
)

// A Spec is an option as getopt_long(3) knows it.
type Spec struct {
	Long  string
	Short byte // 0 for none
	Value bool // it takes one
}

// display is how messages of getopt_long(3) name the option.
func (s Spec) display() string { return "'--" + s.Long + "'" }

// An Order says where options may stand.
type Order int

const (
	// Anywhere lets options stand before, behind and between operands.
	Anywhere Order = iota
	// InFront ends the options at the first operand (the "+" of getopt_long).
	InFront
)

// Parse reads arguments as getopt_long(3) of the GNU C library does: short options may
// be joined; a value is the rest of the word or the next word, whatever that looks
// like; a long name may be cut short as long as it stays unambiguous; "--" ends the
// options. Each option is handed to each in turn, whose error ends it and is returned.
// Errors of its own are *Error.
func Parse(args []string, specs []Spec, order Order, each func(s Spec, value string) error) (operands []string, err error) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return append(operands, args...), nil
		case strings.HasPrefix(word, "--"):
			args, err = getLong(word, args, specs, each)
		case len(word) > 1 && word[0] == '-':
			args, err = getShort(word[1:], args, specs, each)
		case order == InFront:
			return append([]string{word}, args...), nil
		default:
			operands = append(operands, word)
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// getLong reads the long option of a word, and returns the words that are left.
func getLong(word string, args []string, specs []Spec, each func(Spec, string) error) ([]string, error) {
	name, value, has := strings.Cut(word[2:], "=")
	s, err := findLong(word, name, specs)
	if err != nil {
		return nil, err
	}
	switch {
	case has && !s.Value:
		return nil, errorf("option %s doesn't allow an argument", s.display())
	case s.Value && !has && len(args) == 0:
		return nil, errorf("option %s requires an argument", s.display())
	case s.Value && !has:
		value, args = args[0], args[1:]
	}
	return args, each(s, value)
}

// findLong finds the option that a name, perhaps cut short, is for.
func findLong(word, name string, specs []Spec) (Spec, error) {
	var candidates []Spec
	for _, s := range specs {
		if s.Long == name {
			return s, nil
		}
		if strings.HasPrefix(s.Long, name) {
			candidates = append(candidates, s)
		}
	}
	switch len(candidates) {
	case 0:
		return Spec{}, errorf("unrecognized option '%s'", word)
	case 1:
		return candidates[0], nil
	}
	text := fmt.Sprintf("option '%s' is ambiguous; possibilities:", word)
	for _, c := range candidates {
		text += " " + c.display()
	}
	return Spec{}, &Error{text}
}

// getShort reads the short options of a word, whose dash is cut off.
func getShort(letters string, args []string, specs []Spec, each func(Spec, string) error) ([]string, error) {
	for len(letters) > 0 {
		c := letters[0]
		letters = letters[1:]
		s, ok := findShort(c, specs)
		if !ok {
			return nil, errorf("invalid option -- '%s'", string([]byte{c}))
		}
		value := ""
		switch {
		case !s.Value:
		case letters != "":
			value, letters = letters, ""
		case len(args) == 0:
			return nil, errorf("option requires an argument -- '%c'", c)
		default:
			value, args = args[0], args[1:]
		}
		if err := each(s, value); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func findShort(c byte, specs []Spec) (Spec, bool) {
	for _, s := range specs {
		if s.Short == c && c != 0 {
			return s, true
		}
	}
	return Spec{}, false
}

// An Error says what is wrong with an option, in the words of the C library, without the
// program's name.
type Error struct{ text string }

// Error returns the text.
func (e *Error) Error() string { return e.text }

func errorf(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}
