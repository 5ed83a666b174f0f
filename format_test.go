// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// spdxLine is the first line of every file.
const spdxLine = "// SPDX-License-Identifier: Apache-2.0\n"

// Sizes, in lines. What is above an aim is logged, what is above a limit fails,
// without exception. Tests are exempt: a long table is easy to read.
const (
	fileAim   = 400
	fileLimit = 450
	funcAim   = 60
	funcLimit = 80
	docLeast  = 10 // of a package comment
)

// A finding is something to say about a file; only a failure breaks the rules.
type finding struct {
	what    string
	failure bool
}

func TestFormat(t *testing.T) {
	docs := map[string]int{} // lines of the package comment in doc.go, by directory
	err := walkGo(".", func(name string) error {
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		findings, lines, err := inspect(name, src)
		if err != nil {
			return err
		}
		for _, f := range findings {
			if f.failure {
				t.Errorf("%s: %s", name, f.what)
			} else {
				t.Logf("%s: %s", name, f.what)
			}
		}
		if lines >= 0 {
			docs[path.Dir(name)] = max(docs[path.Dir(name)], lines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, lines := range docs {
		if lines < docLeast {
			t.Errorf("%s: the package comment in doc.go has %d lines, want its theory of operation in at least %d", dir, lines, docLeast)
		}
	}
}

// TestFormatChecker proves that the checker finds what it is there to find.
func TestFormatChecker(t *testing.T) {
	body := func(n int) string { return "func f() {\n" + strings.Repeat("\tf()\n", n) + "}\n" }
	lines := func(n int) string { return strings.Repeat("// x\n", n) }
	tests := []struct {
		name, file, src string
		want            []finding
		doc             int
	}{
		{name: "good", file: "x/x.go", src: spdxLine + "\npackage x\n\n" + body(10)},
		{name: "good doc", file: "x/doc.go", src: spdxLine + "\n" + lines(12) + "package x\n", doc: 12},
		{name: "main needs no doc", file: "x/main.go", src: spdxLine + "\npackage main\n", doc: -1},
		{name: "a package for tests needs no doc", file: "x/xtest/x.go", src: spdxLine + "\npackage xtest\n", doc: -1},
		{name: "no licence", file: "x/x.go", src: "package x\n", want: []finding{{"the first line is not the SPDX line", true}}},
		{name: "not formatted", file: "x/x.go", src: spdxLine + "\npackage  x\n", want: []finding{{"not formatted: run gofmt -w", true}}},
		{name: "long function", file: "x/x.go", src: spdxLine + "\npackage x\n\n" + body(70), want: []finding{{"f has 72 lines, aim at 60", false}}},
		{name: "too long function", file: "x/x.go", src: spdxLine + "\npackage x\n\n" + body(79), want: []finding{{"f has 81 lines, more than 80", true}}},
		{name: "long file", file: "x/x.go", src: spdxLine + "\npackage x\n\n" + lines(420), want: []finding{{"424 lines, aim at 400", false}}},
		{name: "too long file", file: "x/x.go", src: spdxLine + "\npackage x\n\n" + lines(460), want: []finding{{"464 lines, more than 450", true}}},
		{name: "long test", file: "x/x_test.go", src: spdxLine + "\npackage x_test\n\n" + lines(460) + "\n" + body(90), doc: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, doc, err := inspect(tt.file, []byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(finding{})); diff != "" {
				t.Errorf("inspect (-want +got):\n%s", diff)
			}
			if doc != tt.doc {
				t.Errorf("inspect: %d lines of package comment, want %d", doc, tt.doc)
			}
		})
	}
}

// inspect returns what is to be said about a file, and how many lines of package
// comment it gives its package: 0 unless it is doc.go, and -1 if it belongs to
// none that needs one, being a test, or in a main package or one for tests.
func inspect(name string, src []byte) ([]finding, int, error) {
	var found []finding
	say := func(failure bool, what ...any) {
		found = append(found, finding{fmt.Sprint(what...), failure})
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, 0, err
	}
	if !bytes.HasPrefix(src, []byte(spdxLine)) {
		say(true, "the first line is not the SPDX line")
	}
	if formatted, err := format.Source(src); err != nil || !bytes.Equal(formatted, src) {
		say(true, "not formatted: run gofmt -w")
	}
	if strings.HasSuffix(name, "_test.go") {
		return found, -1, nil
	}
	size := func(what string, n, aim, limit int) {
		switch {
		case n > limit:
			say(true, what, n, " lines, more than ", limit)
		case n > aim:
			say(false, what, n, " lines, aim at ", aim)
		}
	}
	size("", bytes.Count(src, []byte("\n")), fileAim, fileLimit)
	for _, decl := range f.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			size(fn.Name.Name+" has ", fset.Position(fn.End()).Line-fset.Position(fn.Pos()).Line+1, funcAim, funcLimit)
		}
	}
	switch {
	case f.Name.Name == "main" || forTests(path.Dir(name)):
		return found, -1, nil
	case path.Base(name) == "doc.go" && f.Doc != nil:
		return found, fset.Position(f.Doc.End()).Line - fset.Position(f.Doc.Pos()).Line + 1, nil
	}
	return found, 0, nil
}
