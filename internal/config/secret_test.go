package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestSecretsNeverPrint formats and marshals a secret in every way, alone and deep inside a configuration.
func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/full.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(data))
	s := NewSecret(testToken)
	_, key := testCertificate()
	type private struct{ s Secret } // fmt does not call the methods of unexported fields
	f := func(how, got string) {
		t.Helper()
		if strings.Contains(got, testToken) || strings.Contains(got, fmt.Sprintf("%x", testToken)) ||
			strings.Contains(got, key[40:80]) {
			t.Errorf("%s prints a secret: %s", how, got)
		}
	}
	for name, v := range map[string]any{
		"secret": s, "pointer": &s, "credential": c.Agents[0].Credential, "agent": c.Agents[0], "tls": c.Agents[0].TLS,
		"config": c, "value": *c, "slice": []Secret{s}, "map": map[string]Secret{"a": s},
		"private": private{s}, "error": fmt.Errorf("with %v", s),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
			f(name+" "+verb, fmt.Sprintf(verb, v))
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: json: %v", name, err)
		}
		f(name+" json", string(out))
		out, err = yaml.Marshal(v)
		if err != nil {
			t.Errorf("%s: yaml: %v", name, err)
		}
		f(name+" yaml", string(out))
		var text strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
		f(name+" slog", text.String())
	}
	for how, got := range map[string]string{
		"%v": fmt.Sprintf("%v", s), "%+v": fmt.Sprintf("%+v", s), "%#v": fmt.Sprintf("%#v", s), "%s": fmt.Sprintf("%s", s), "%q": fmt.Sprintf("%q", s),
		"String": s.String(), "GoString": s.GoString(),
	} {
		if got != "<secret>" {
			t.Errorf("%s: got %q", how, got)
		}
	}
	if out, _ := json.Marshal(c); strings.Count(string(out), `"\u003csecret\u003e"`)+strings.Count(string(out), `"<secret>"`) != 4 {
		t.Errorf("json: all secrets should show as such: %s", out)
	}
	if out, _ := yaml.Marshal(c); strings.Count(string(out), "<secret>") != 4 {
		t.Errorf("yaml: all secrets should show as such: %s", out)
	}
	if s.Reveal() != testToken || s.IsZero() || !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Error("a secret reveals itself when asked")
	}
}

// TestCredentialsBecomeHeaders holds the three forms, and where a secret may come from.
func TestCredentialsBecomeHeaders(t *testing.T) {
	t.Parallel()
	f := func(credential, wantHeader, wantValue string) {
		t.Helper()
		c := parse(t, minimal+"    credential: "+credential+"\n")
		got := c.Agents[0].Credential
		if got.Header != wantHeader || got.Value.Reveal() != wantValue {
			t.Errorf("%s: got %s: %s, want %s: %s", credential, got.Header, got.Value.Reveal(), wantHeader, wantValue)
		}
	}
	f(`{bearer: {value: abc}}`, "Authorization", "Bearer abc")
	f(`{bearer: {env: TOKEN}}`, "Authorization", "Bearer "+testToken)
	f(`{bearer: {value: "${TOKEN}"}}`, "Authorization", "Bearer "+testToken)
	f(`{bearer: {value: "a$$b$c"}}`, "Authorization", "Bearer a$b$c")
	f(`{bearer: {env: "${UNSET:-TOKEN}"}}`, "Authorization", "Bearer "+testToken)
	// the newline at the end of a file is not part of the secret, and nothing in it is expanded
	f(`{x-api-key: {file: /token}}`, "x-api-key", testToken)
	f(`{header: Authorization, value: {value: Token abc}}`, "Authorization", "Token abc")
	f(`{header: api-key, value: {file: /token}}`, "api-key", testToken)
	f(`{}`, "", "")
	f(``, "", "")
}
