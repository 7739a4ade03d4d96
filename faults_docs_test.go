package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaultsAreHeld makes sure that every fault in docs/faults.md names what holds it, and that all it names exists.
func TestFaultsAreHeld(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, dir := range []string{".", "proxy", "ratelimit", "auth", "translate", "internal/balance", "internal/config", "internal/logging", "internal/state"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range testFunc.FindAllSubmatch(b, -1) {
				tests[string(m[1])] = true
			}
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || strings.HasPrefix(cells[1], " ---") || strings.TrimSpace(cells[1]) == "fault" {
			continue
		}
		rows++
		held := false
		for _, m := range quoted.FindAllStringSubmatch(cells[len(cells)-2], -1) {
			held = true
			name := m[1]
			if strings.HasPrefix(name, "interop/") {
				if _, err := os.Stat(name); err != nil {
					t.Errorf("%s: there is no %s", cells[1], name)
				}
			} else if !tests[name] {
				t.Errorf("%s: there is no %s", cells[1], name)
			}
		}
		if !held {
			t.Errorf("nothing holds it: %s", line)
		}
	}
	if rows < 29 {
		t.Errorf("%d faults, want 29 at least", rows)
	}
}
