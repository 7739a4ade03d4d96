package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoadReadsRealFiles goes through the file system and the environment of the process.
func TestLoadReadsRealFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("DRAGOMAN_TEST_PORT", "9123")
	secret := write("token", testToken+"\n")
	path := write("config.yaml", "server: {listen: \"127.0.0.1:${DRAGOMAN_TEST_PORT}\"}\n"+minimal+
		"    credential: {x-api-key: {file: "+secret+"}}\n")
	c, problems := Load(path, Options{Protocols: testProtocols})
	if c == nil || len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if c.Server.Listen != "127.0.0.1:9123" || c.Agents[0].Credential.Value.Reveal() != testToken {
		t.Errorf("got %+v", c)
	}
}

// TestLoadTellsOfFilesThatCannotBeRead holds the messages for files as a whole.
func TestLoadTellsOfFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := func(name, text, want string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, problems := Load(path, Options{Protocols: testProtocols})
		if c != nil || len(problems) != 1 || problems[0].String() != path+want {
			t.Errorf("got %v, want %s%s", problems, path, want)
		}
	}
	f("missing.yaml", "", ": cannot be read: no such file or directory")
	f(".", "", ": cannot be read: is a directory")
	f("large.yaml", strings.Repeat("#\n", maxFile/2+1), ":1: is larger than 1MiB, which cannot be a configuration")
	f("latin1.yaml", "# a\n# b\xff\n", ":2: is not UTF-8 text")
	f("utf16.yaml", "\xff\xfea\x00", ":1: is not UTF-8 text")
	f("comment.yaml", "# nothing\n", ":1: is empty: write at least one of `agents`")

	o := Options{ReadFile: func(string) ([]byte, error) { return nil, errors.New("disk on fire at " + testToken) }}
	if _, problems := Load("x", o); len(problems) != 1 || problems[0].String() != "x: cannot be read: reading it failed" {
		t.Errorf("got %v", problems)
	}
}

// TestProblemsAreBounded keeps a hostile file from filling the log.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("auth: {mode: none}\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	c, problems := Parse("x", []byte(b.String()), testOptions(t))
	if c != nil || len(problems) != maxProblems+1 {
		t.Fatalf("got %d problems", len(problems))
	}
	if got, want := problems[maxProblems].Message, "and 4801 more of them"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNestingIsBounded keeps a deep file from exhausting the stack.
func TestNestingIsBounded(t *testing.T) {
	t.Parallel()
	for _, open := range []string{"[", "{a: ", "- "} {
		if c, problems := Parse("x", []byte(strings.Repeat(open, maxFile/8)), testOptions(t)); c != nil || len(problems) == 0 {
			t.Errorf("%q: taken", open)
		}
	}
}

// TestSidecarNeedsNoFile builds the same configuration from words of the command line.
func TestSidecarNeedsNoFile(t *testing.T) {
	t.Parallel()
	c, problems := Sidecar([]string{"support=cycls+http://127.0.0.1:8000"}, "", "none", testOptions(t))
	if c == nil || len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if got, want := c.Agents[0].URLs[0].String(), "http://127.0.0.1:8000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c.Server.Listen != "127.0.0.1:8080" || c.DefaultAgent != "support" || c.Lookup("anything") == nil {
		t.Errorf("got %+v", c)
	}
	c, problems = Sidecar([]string{"a=cycls+unix:/run/a+b.sock", "b=chat+demo:chat"}, "[::1]:0", "none", testOptions(t))
	if c == nil || len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if c.Server.Listen != "[::1]:0" || c.Agents[0].URLs[0].Path != "/run/a+b.sock" || c.Agents[1].URLs[0].Demo != "chat" || c.DefaultAgent != "" {
		t.Errorf("got %+v", c)
	}
}

// TestSidecarAdminComesFromTheEnvironment holds that two sidecars of one host can be kept apart.
func TestSidecarAdminComesFromTheEnvironment(t *testing.T) {
	t.Parallel()
	f := func(set bool, text, want string) {
		t.Helper()
		o := testOptions(t)
		o.Getenv = func(name string) (string, bool) { return text, set && name == "DRAGOMAN_ADMIN_LISTEN" }
		c, problems := Sidecar([]string{"support=cycls+http://127.0.0.1:8000"}, "", "none", o)
		if c == nil || len(problems) > 0 || c.Admin.Listen != want {
			t.Errorf("%q: got %+v %v, want %q", text, c, problems, want)
		}
	}
	f(false, "", "127.0.0.1:8081")
	f(true, "", "")
	f(true, "localhost:9", "127.0.0.1:9")
	f(true, ":9090", ":9090")
	f(true, "unix:/run/admin.sock", "unix:/run/admin.sock")
}

// TestSidecarTellsOfEveryMistake has no lines to name, and quotes no password.
func TestSidecarTellsOfEveryMistake(t *testing.T) {
	t.Parallel()
	f := func(specs []string, listen string, want ...string) {
		t.Helper()
		c, problems := Sidecar(specs, listen, "none", testOptions(t))
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if c != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f(nil, "", "command line: agents: is required: write at least one agent with its name, protocol and url")
	f([]string{"http://a:hunter2@127.0.0.1", "a=hunter2", "b=cycls+http://a:hunter2@127.0.0.1", "c=cycls+${TOKEN}"}, ":8080",
		"command line: agents[0]: wants name=protocol+url, such as support=cycls+http://127.0.0.1:8000",
		"command line: agents[1]: wants name=protocol+url, such as support=cycls+http://127.0.0.1:8000",
		"command line: agents[2].url: holds a user or a password: write `credential` instead",
		"command line: agents[3].url: wants http://host:port, https://host:port, unix:/path or demo:protocol",
		"command line: server.listen: is open to other hosts while -auth none lets everybody in: put keys into the environment variable "+
			"DRAGOMAN_KEYS instead, or listen on a loopback address or a unix socket",
	)
}

// TestProblemsPrint holds their form.
func TestProblemsPrint(t *testing.T) {
	t.Parallel()
	f := func(p Problem, want string) {
		t.Helper()
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(Problem{File: "config.yaml", Line: 12, Path: "agents[0].url", Message: "is wrong"}, "config.yaml:12: agents[0].url: is wrong")
	f(Problem{File: "config.yaml", Line: 12, Message: "is wrong", Severity: Warning}, "config.yaml:12: warning: is wrong")
	f(Problem{File: "command line", Path: "agents[0]", Message: "is wrong"}, "command line: agents[0]: is wrong")
	if HasErrors([]Problem{{Severity: Warning}}) || !HasErrors([]Problem{{Severity: Warning}, {}}) {
		t.Error("warnings are no errors")
	}
	if Error.String() != "error" || Warning.String() != "warning" {
		t.Error("severities have names")
	}
}
