package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// TestKeyPrintsAKeyOnceWithItsHash takes what the command prints apart as its reader does, and loads it.
func TestKeyPrintsAKeyOnceWithItsHash(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, name := range []string{"caller", "support-frontend", "true", "No", "7", "a: b", `"quoted" \\`, "für alle", "#x", "- x", "1e3", "2027-01-01", "~"} {
		var stdout, stderr bytes.Buffer
		if code := run([]string{"key", "-name", name}, nil, &stdout, &stderr); code != 0 {
			t.Fatalf("%s: exit %d: %s", name, code, &stderr)
		}
		key, lines, _ := strings.Cut(stdout.String(), "\n\n")
		if !regexp.MustCompile(`^[!-~]{20,}$`).MatchString(key) || seen[key] || strings.Contains(lines+stderr.String(), key) {
			t.Errorf("%s: printed %q, and to stderr %q", name, &stdout, &stderr)
		}
		seen[key] = true
		checkLines(t, lines, name, key)
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"key"}, nil, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "- name: caller\n") {
		t.Errorf("exit %d: %s%s", code, &stdout, &stderr)
	}
}

// TestKeyHashesAKeyThatExists reads it from standard input, with and without a line's end, and prints nothing of it.
func TestKeyHashesAKeyThatExists(t *testing.T) {
	t.Parallel()
	const key = "a-key-that-exists-already"
	for _, in := range []string{key, key + "\n", key + "\r\n"} {
		var stdout, stderr bytes.Buffer
		if code := run([]string{"key", "-hash", "-name", "old"}, strings.NewReader(in), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Fatalf("%q: exit %d: %s", in, code, &stderr)
		}
		if strings.Contains(stdout.String(), key) {
			t.Errorf("prints the key: %s", &stdout)
		}
		checkLines(t, stdout.String(), "old", key)
	}
	for in, want := range map[string]string{
		"": "is empty", "hunter2": "is shorter than 20 bytes", "hunter2 hunter2 hunter2": "holds a space",
		"hunter2-hunter2-hunter2\nhunter2": "holds a space, a line break", strings.Repeat("hunter2", 100_000): "is longer than 8KiB",
	} {
		var stdout, stderr bytes.Buffer
		if code := run([]string{"key", "-hash"}, strings.NewReader(in), &stdout, &stderr); code != 1 || stdout.Len() > 0 ||
			!strings.Contains(stderr.String(), "the key on standard input "+want) || strings.Contains(stderr.String(), "hunter2") {
			t.Errorf("%.40q: exit %d: %s%s", in, code, &stdout, &stderr)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"key", "-hash"}, iotest.ErrReader(errors.New("broken pipe")), &stdout, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "read the key from standard input: broken pipe") {
		t.Errorf("exit %d: %s%s", code, &stdout, &stderr)
	}
}

// checkLines loads the lines as a file of keys.
func checkLines(t *testing.T, lines, name, key string) {
	t.Helper()
	c, problems := config.Parse("c.yaml", []byte("auth: {keys_file: /keys.yaml}\nagents: [{name: a, protocol: chat, url: \"demo:chat\"}]\n"),
		config.Options{Protocols: translate.Names(), ReadFile: func(string) ([]byte, error) { return []byte(lines), nil }})
	if c == nil || len(problems) > 0 || len(c.Auth.Keys) != 1 || c.Auth.Keys[0].Name != name || c.Auth.Keys[0].Hash != auth.HashKey([]byte(key)) {
		t.Errorf("%s: %v: %s", name, problems, lines)
	}
}

// TestAGivenKeyIsNeverQuoted hands a key over where none belongs.
func TestAGivenKeyIsNeverQuoted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"key", "hunter2-hunter2-hunter2"}, {"key", "-hash", "hunter2-hunter2-hunter2"}, {"key", "-name", "hunter2|hunter2"}} {
		var stdout, stderr bytes.Buffer
		if code := run(args, strings.NewReader(""), &stdout, &stderr); code == 0 || strings.Contains(stdout.String()+stderr.String(), "hunter2") {
			t.Errorf("%q: exit %d: %s%s", args, code, &stdout, &stderr)
		}
	}
}

// TestTheDemoKeyIsOneKey holds that the packages and the shipped configuration mean the same one.
func TestTheDemoKeyIsOneKey(t *testing.T) {
	t.Parallel()
	hash := auth.HashKey([]byte(auth.DemoKey))
	if !auth.IsDemo(hash) {
		t.Error("auth does not know its own")
	}
	lines := keyLines("demo", auth.DemoKey)
	parse := func(listen string) string {
		_, problems := config.Parse("c.yaml", []byte("server: {listen: \""+listen+"\"}\nauth: {keys_file: /keys.yaml}\nagents: [{name: a, protocol: chat, url: \"demo:chat\"}]\n"),
			config.Options{Protocols: translate.Names(), ReadFile: func(string) ([]byte, error) { return []byte(lines), nil }})
		if len(problems) == 0 {
			return ""
		}
		return problems[0].String()
	}
	if got := parse("127.0.0.1:0"); got != "" {
		t.Error(got)
	}
	if got := parse("0.0.0.0:0"); !strings.Contains(got, "is the published demo key") {
		t.Errorf("other hosts may come with it: %q", got)
	}
}
