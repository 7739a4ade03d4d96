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
	f.Add([]byte("auth: {keys: [{name: \"${A}\", hash: \"${A}\", expires: \"${A}\", agents: [\"${A}\"]}], keys_file: \"/${A}\"}\nlimits: {store: redis, default: {requests: \"${A}\"}}\nredis: {url: {value: \"redis://${A}\"}}"))
	f.Add([]byte("auth: {keys: [{name: a, key: {value: \"${A}${A}\"}}], jwt: {issuer: \"${A}\", audience: [\"${A}\"], jwks_url: \"https://${A}/\", algorithms: [\"${A}\"]}}\nagents: [{name: a, protocol: chat, url: \"demo:chat\"}]"))
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
			if strings.HasSuffix(path, ".yaml") {
				return []byte("- {name: b, key: {value: " + canary + "-and-more}}\n- {name: \"" + canary + "\", agents: [" + canary + "], expires: " + canary + "}\n"), nil
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
			if p.Line < 1 || p.Message == "" || i > 0 && p.File == problems[i-1].File && p.Line < problems[i-1].Line {
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
			if again, problem := parseTarget(a.URLs[0].String(), a.AllowLinkLocal, o.Protocols); problem != "" || again != a.URLs[0] {
				t.Errorf("url %+v: parsed again it is %+v, %s", a.URLs[0], again, problem)
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
		if !c.Open() && len(c.Auth.Keys) == 0 && c.Auth.JWT == nil {
			t.Error("nobody could call")
		}
		if c.Open() && !c.Server.Local() && !c.Auth.AllowUnauthenticated {
			t.Error("everybody can call")
		}
		for _, k := range c.Auth.Keys {
			if k.Name == "" || k.Hash == [32]byte{} || k.Agents != nil && len(k.Agents) == 0 || k.Limits != nil && k.Limits.IsZero() {
				t.Errorf("key %+v", k)
			}
		}
		if again, problems := c.ReadKeys(); HasErrors(problems) || len(again) != len(c.Auth.Keys) {
			t.Errorf("read again: %v, %v", again, problems)
		}
		if j := c.Auth.JWT; j != nil && (j.Issuer == "" || len(j.Audience) == 0 || len(j.Algorithms) == 0 || (j.JWKSURL == "") == (j.JWKSFile == "")) {
			t.Errorf("jwt %+v", j)
		}
		for _, l := range []Limits{c.Limits.Default, c.Limits.Global, c.Agents[0].Limits} {
			for _, r := range []Rate{l.Requests, l.Tokens} {
				if r != (Rate{}) && (r.Per <= 0 || r.Burst < 1 || r.Burst > r.Events || r.Events > maxEvents) || l.Concurrent < 0 {
					t.Errorf("limits %+v", l)
				}
			}
		}
		if _, problem := parseListen(c.Server.Listen); problem != "" {
			t.Errorf("listener %q: %s", c.Server.Listen, problem)
		}
	})
}
