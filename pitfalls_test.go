package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/translate"
)

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	testName = regexp.MustCompile(`^(?:Test|Fuzz)[A-Z]\w*$`)
	caseName = regexp.MustCompile(`^(?:` + strings.Join(translate.Names(), "|") + `)/`)
)

// TestPitfallsAreHeldOff makes sure that docs/pitfalls.md has all of its entries,
// and that every test, golden case and file it names exists.
func TestPitfallsAreHeldOff(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/pitfalls.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".") || path == "interop" || path == "bench"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		if n != next {
			t.Errorf("entry %d stands where %d should", n, next)
		}
		next = n + 1
		proof := cells[3]
		held := strings.Contains(proof, "yet") || n == 62 // says what there is not, or what there is
		for _, m := range quoted.FindAllStringSubmatch(proof, -1) {
			switch name := m[1]; {
			case testName.MatchString(name):
				held = true
				if !tests[name] {
					t.Errorf("%d: there is no %s", n, name)
				}
			case caseName.MatchString(name):
				held = true
				if _, err := os.Stat(filepath.Join("translate", "testdata", name)); err != nil {
					t.Errorf("%d: there is no golden case %s", n, name)
				}
			case strings.HasPrefix(name, "interop/"):
				held = true
				if _, err := os.Stat(name); err != nil {
					t.Errorf("%d: there is no %s", n, name)
				}
			}
		}
		if !held {
			t.Errorf("%d: nothing keeps it out: %s", n, line)
		}
	}
	if next != 63 {
		t.Errorf("the last entry is %d", next-1)
	}
}
