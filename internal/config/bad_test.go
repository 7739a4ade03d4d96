package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// TestBadFilesAreToldWhatToWrite reads one broken file for each rule and compares every problem with the golden file.
func TestBadFilesAreToldWhatToWrite(t *testing.T) {
	t.Parallel()
	golden(t, "bad", func(t *testing.T, name string, c *Config, problems []Problem) {
		if c != nil || !HasErrors(problems) {
			t.Errorf("%s: was taken", name)
		}
	})
}

// TestGoodFilesAreTaken compares the warnings of good files.
func TestGoodFilesAreTaken(t *testing.T) {
	t.Parallel()
	golden(t, "good", func(t *testing.T, name string, c *Config, problems []Problem) {
		if c == nil || HasErrors(problems) {
			t.Errorf("%s: was refused: %v", name, problems)
		}
	})
}

func golden(t *testing.T, kind string, check func(*testing.T, string, *Config, []Problem)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*." + kind + ".yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	o := testOptions(t)
	var got bytes.Buffer
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		why, _, ok := strings.Cut(string(data), "\n")
		if !ok || !strings.HasPrefix(why, "# ") {
			t.Errorf("%s: the first line must be a comment that says why", name)
		}
		c, problems := Parse("", data, o)
		check(t, name, c, problems)
		fmt.Fprintf(&got, "== %s\n", name)
		for i, p := range problems {
			if p.Line < 1 || i > 0 && p.File == problems[i-1].File && p.Line < problems[i-1].Line {
				t.Errorf("%s: no line, or out of order: %v", name, p)
			}
			if s := p.String(); strings.Contains(s, "hunter2") || strings.Contains(s, testToken) {
				t.Errorf("%s: quotes a secret: %s", name, s)
			}
			fmt.Fprintln(&got, p)
		}
	}
	path := filepath.Join("testdata", kind+".golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("differs from %s (-update writes it):\n%s", path, firstDifference(got.String(), string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}
