// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"fmt"
	"strings"
)

// A spec is an option as getopt_long(3) knows it.
type spec struct {
	long  string
	short byte // 0 for none
	value bool // it takes one
}

// display is how messages of getopt_long(3) name the option.
func (s spec) display() string { return "'--" + s.long + "'" }

// getopt reads arguments as getopt_long(3) of the GNU C library does: options stand
// before, behind and between operands; short ones may be joined; a value is the rest
// of the word or the next word, whatever that looks like; a long name may be cut
// short as long as it stays unambiguous; "--" ends the options. Each option is handed
// to each in turn, whose error ends it. Errors of getopt itself are *optionError.
func getopt(args []string, specs []spec, each func(s spec, value string) error) (operands []string, err error) {
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
func getLong(word string, args []string, specs []spec, each func(spec, string) error) ([]string, error) {
	name, value, has := strings.Cut(word[2:], "=")
	s, err := findLong(word, name, specs)
	if err != nil {
		return nil, err
	}
	switch {
	case has && !s.value:
		return nil, optionErrorf("option %s doesn't allow an argument", s.display())
	case s.value && !has && len(args) == 0:
		return nil, optionErrorf("option %s requires an argument", s.display())
	case s.value && !has:
		value, args = args[0], args[1:]
	}
	return args, each(s, value)
}

// findLong finds the option that a name, perhaps cut short, is for.
func findLong(word, name string, specs []spec) (spec, error) {
	var candidates []spec
	for _, s := range specs {
		if s.long == name {
			return s, nil
		}
		if strings.HasPrefix(s.long, name) {
			candidates = append(candidates, s)
		}
	}
	switch len(candidates) {
	case 0:
		return spec{}, optionErrorf("unrecognized option '%s'", word)
	case 1:
		return candidates[0], nil
	}
	text := fmt.Sprintf("option '%s' is ambiguous; possibilities:", word)
	for _, c := range candidates {
		text += " " + c.display()
	}
	return spec{}, &optionError{text}
}

// getShort reads the short options of a word, whose dash is cut off.
func getShort(letters string, args []string, specs []spec, each func(spec, string) error) ([]string, error) {
	for len(letters) > 0 {
		c := letters[0]
		letters = letters[1:]
		s, ok := findShort(c, specs)
		if !ok {
			return nil, optionErrorf("invalid option -- '%s'", string([]byte{c}))
		}
		value := ""
		switch {
		case !s.value:
		case letters != "":
			value, letters = letters, ""
		case len(args) == 0:
			return nil, optionErrorf("option requires an argument -- '%c'", c)
		default:
			value, args = args[0], args[1:]
		}
		if err := each(s, value); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func findShort(c byte, specs []spec) (spec, bool) {
	for _, s := range specs {
		if s.short == c && c != 0 {
			return s, true
		}
	}
	return spec{}, false
}

// An optionError says what is wrong with an option, without the program's name.
type optionError struct{ text string }

// Error returns the text.
func (e *optionError) Error() string { return e.text }

func optionErrorf(format string, args ...any) error {
	return &optionError{fmt.Sprintf(format, args...)}
}
