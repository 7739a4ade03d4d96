package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse feeds anything. It must not panic, a refusal must have a reason with a line, a configuration must be usable,
// and what comes from the environment or from a file must not be quoted, wherever it is used.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("agents: [{name: \"${A}\", aliases: [\"${A}\", \"${A}*\"], protocol: \"${A}\", url: \"${A}\", path: \"${A}\", model: \"${A}\"}]\ndefault_agent: \"${A}\""))
	f.Add([]byte("agents: [{name: a, protocol: chat, url: \"https://${A}/${A}\", headers: {X: \"${A}\"}, options: {a: \"${A}\"}, tls: {ca_file: \"/${A}\"}}]"))
	// It passes for an agent's name, so that it gets as far as a secret can.
	const canary = "c4naryT0ken"
	o := Options{
		Protocols:   testProtocols,
		Getenv:      func(string) (string, bool) { return canary, true },
		OptionCheck: func(_, _, value string) error { return fmt.Errorf("not %q", value) },
		ReadFile: func(path string) ([]byte, error) {
			if strings.HasSuffix(path, "missing") {
				return nil, errors.New("no " + path + canary)
			}
			return []byte(canary + "\n"), nil
		},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(strings.ToLower(string(data)), "c4nary") {
			return
		}
		c, problems := Parse("fuzz.yaml", data, o)
		if (c == nil) != HasErrors(problems) {
			t.Fatalf("a configuration and errors, or neither: %v", problems)
		}
		for i, p := range problems {
			if p.Line < 1 || p.Message == "" || i > 0 && p.Line < problems[i-1].Line {
				t.Errorf("no line, no message, or out of order: %v", p)
			}
			if strings.Contains(p.String(), canary) {
				t.Errorf("quotes a secret: %v", p)
			}
			if strings.ContainsAny(p.String(), "\r\n\x00\x1b") {
				t.Errorf("prints a control character: %q", p.String())
			}
		}
		if c == nil {
			return
		}
		for i := range c.Agents {
			a := &c.Agents[i]
			if c.Lookup(a.Name) != a {
				t.Errorf("agent %q is not found by its name", a.Name)
			}
			if again, problem := parseTarget(a.URL.String(), a.AllowLinkLocal, o.Protocols); problem != "" || again != a.URL {
				t.Errorf("url %+v: parsed again it is %+v, %s", a.URL, again, problem)
			}
			for _, h := range a.Headers {
				if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") {
					t.Errorf("header %+q splits", h)
				}
			}
			if strings.ContainsAny(a.Credential.Value.Reveal(), "\r\n\x00") {
				t.Error("the credential splits")
			}
		}
		if _, problem := parseListen(c.Server.Listen); problem != "" {
			t.Errorf("listener %q: %s", c.Server.Listen, problem)
		}
	})
}
