// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// A drawing's and the style sheet's own text are left out of the golden page: the
// first is the library's, the second changes for looks.
var (
	styleText   = regexp.MustCompile(`(?s)<style>.*?</style>`)
	drawingText = regexp.MustCompile(`(?s)<svg class="plot".*?<title id="([a-z0-9-]+)">(.*?)</title><desc id="[a-z0-9-]+">(.*?)</desc>.*?</svg>`)
)

func TestHTMLGolden(t *testing.T) {
	r := sampleReport()
	r.Interrupted = true
	page, err := htmlReport(r)
	if err != nil {
		t.Fatal(err)
	}
	text := styleText.ReplaceAllString(string(page), "<style></style>")
	golden(t, "page.golden", drawingText.ReplaceAllString(text, "<svg><!-- $1: $2: $3 --></svg>"))
	const sizeLimit = 1 << 20 // bytes: the page is committed
	if len(page) > sizeLimit {
		t.Errorf("the page has %d bytes", len(page))
	}
}

// inspectPage walks the page and fails where it holds what only a hostile string can
// have brought in, or what loads something. It returns all text.
func inspectPage(t *testing.T, page []byte) string {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	var links []string
	var text strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			text.WriteString(n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "iframe", "object", "embed", "link", "base", "form", "image", "use", "foreignObject", "animate":
			t.Errorf("element %s", n.Data)
		}
		for _, a := range n.Attr {
			switch key := strings.ToLower(a.Key); {
			case strings.HasPrefix(key, "on"), key == "src", key == "srcset", key == "action":
				t.Errorf("attribute %s=%q", a.Key, a.Val)
			case key == "href":
				if !strings.HasPrefix(a.Val, "#") {
					t.Errorf("link to %q", a.Val)
				}
				links = append(links, strings.TrimPrefix(a.Val, "#"))
			case key == "id":
				if ids[a.Val] {
					t.Errorf("id %q is there twice", a.Val)
				}
				ids[a.Val] = true
			case key == "style" && strings.Contains(a.Val, "url("):
				t.Errorf("style %q", a.Val)
			}
		}
	}
	for _, l := range links {
		if !ids[l] {
			t.Errorf("link to #%s, which is not there", l)
		}
	}
	return text.String()
}

func TestHTMLLoadsNothing(t *testing.T) {
	page, err := htmlReport(sampleReport())
	if err != nil {
		t.Fatal(err)
	}
	text := inspectPage(t, page)
	for _, want := range []string{`not installed: "pasta" <nowhere>`, "implausible: better than direct (1.53×)", "does not apply: there is no helper", "go run ./bench -out x", "apples", `network namespace "host"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if bytes.Contains(page, []byte("@import")) || bytes.Contains(page, []byte("url(")) || bytes.Contains(page, []byte("ZgotmplZ")) {
		t.Error("the style sheet loads something, or the template refused a value")
	}
}

// TestHTMLHostile puts hostile text everywhere where a results file has text.
func TestHTMLHostile(t *testing.T) {
	for i, evil := range []string{
		`<script>alert(1)</script>`,
		`" onmouseover="alert(1)" x="`,
		`</style></svg></title><img src=x onerror=alert(1)>`,
		`{{.}} javascript:alert(1) --> ]]> &lt;script&gt;`,
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := sampleReport()
			rename := map[string]string{}
			for i := range r.Plan.Subjects {
				s := &r.Plan.Subjects[i]
				rename[s.Name] = s.Name + evil
				s.Name += evil
				s.Version += evil
				if s.Missing != "" {
					s.Missing += evil
				}
			}
			for i := range r.Cells {
				c := &r.Cells[i]
				c.Subject = rename[c.Subject]
				c.Row.Case += "/" + evil
				c.Row.Congestion += evil
				c.Row.Metric.Unit += evil
				if c.Missing != "" && c.Missing != notApplicable {
					c.Missing += evil
				}
				c.Flags, c.Doubt = append(c.Flags, evil), true
			}
			for i := range r.Records {
				rec := &r.Records[i]
				rec.Subject = rename[rec.Subject]
				rec.Case += "/" + evil
				rec.Congestion += evil
				rec.Command = append(rec.Command, evil)
			}
			m := &r.Machine
			m.CPU, m.Kernel, m.OS, m.Go, m.Build, m.Memory = evil, evil, evil, evil, evil, evil
			m.Sysctls[evil] = evil
			r.Took, r.CommandLine, r.Plan.Congestion = evil, []string{"bench", evil}, []string{evil}
			page, err := htmlReport(r)
			if err != nil {
				t.Fatal(err)
			}
			if text := inspectPage(t, page); !strings.Contains(text, evil) {
				t.Error("the page does not show the text as it is")
			}
			inspectTerminal(t, r)
		})
	}
}

// inspectTerminal fails where the table would pass control characters on.
func inspectTerminal(t *testing.T, r *Report) {
	t.Helper()
	for _, c := range reportText(r, screen{width: minWidth}) {
		if c < ' ' && c != '\n' {
			t.Fatalf("control character %q", c)
		}
	}
}

func TestWriteHTML(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.html")
	if err := writeHTML(path, sampleReport()); err != nil {
		t.Fatal(err)
	}
	if err := writeHTML(filepath.Join(path, "y"), sampleReport()); err == nil {
		t.Error("a page below a file was written")
	}
}

// TestSubjectSlots holds the colours stable: they follow the tool, not the order.
func TestSubjectSlots(t *testing.T) {
	subjects := func(tools ...string) []Subject {
		var all []Subject
		for _, tool := range tools {
			all = append(all, Subject{Name: tool, Tool: tool})
		}
		return all
	}
	tests := []struct {
		name string
		in   []Subject
		want []int
	}{
		{"usual", subjects("direct", "slirp4netns", "pasta", "slipway"), []int{0, 2, 3, 1}},
		{"other order", subjects("slipway", "pasta", "direct"), []int{1, 3, 0}},
		{"two of ours", subjects("direct", "slipway", "slipway", "slipway"), []int{0, 1, 6, 7}},
		{"more than there are colours", subjects("slipway", "slipway", "slipway", "slipway", "slipway", "slipway", "slipway", "slipway", "slipway"), []int{1, 6, 7, 0, 2, 3, 4, 5, 7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := subjectSlots(tt.in); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("slots %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	r := &Report{CommandLine: []string{"/tmp/bench", "-cases", "a|b$", "-mtu", "1500,65520", "it's", ""}}
	if got, want := commandLine(r), `go run ./bench -cases 'a|b$' -mtu 1500,65520 'it'\''s' ''`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
