package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// files is a world whose files change.
type files struct {
	mu   sync.Mutex
	text map[string]string
}

func (f *files) set(path, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text[path] = text
}

func (f *files) options(t *testing.T) Options {
	o := testOptions(t)
	o.ReadFile = func(path string) ([]byte, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		text, ok := f.text[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("no such file or directory")}
		}
		return []byte(text), nil
	}
	return o
}

// key is what becomes of a key that is written as text.
func key(name, text string) Key { return Key{Name: name, Hash: sha256.Sum256([]byte(text))} }

const agents = "agents:\n  - name: support\n    protocol: cycls\n    url: http://127.0.0.1:8000\n"

const (
	key1 = "the-first-key-of-this-test"
	key2 = "the-second-key-of-this-test"
	key3 = "the-third-key-of-this-test"
)

// TestKeysAreReadAgain changes every file that a key comes from, one after the other.
func TestKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	w := &files{text: map[string]string{
		"/a":         key1 + "\n",
		"/keys.yaml": "- name: b\n  key: {file: /b}\n- {name: c, key: {value: " + key3 + "}}\n",
		"/b":         key2,
	}}
	c, problems := Parse("c.yaml", []byte(agents+"auth:\n  keys:\n    - name: a\n      key: {file: /a}\n  keys_file: /keys.yaml\n"), w.options(t))
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	f := func(watched []string, want ...Key) {
		t.Helper()
		got, problems := c.ReadKeys()
		if len(problems) > 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v (%v), want %v", got, problems, want)
		}
		if got := c.WatchedFiles(); !reflect.DeepEqual(got, watched) {
			t.Errorf("watched: got %q, want %q", got, watched)
		}
	}
	before := []Key{key("a", key1), key("b", key2), key("c", key3)}
	if !reflect.DeepEqual(c.Auth.Keys, before) {
		t.Errorf("got %v, want %v", c.Auth.Keys, before)
	}
	f([]string{"/a", "/b", "/keys.yaml"}, before...)
	w.set("/a", key1+"-again")
	w.set("/b", key2+"-again")
	f([]string{"/a", "/b", "/keys.yaml"}, key("a", key1+"-again"), key("b", key2+"-again"), key("c", key3))
	// a key that moves to another file
	w.set("/d", key3+"-again")
	w.set("/keys.yaml", "keys:\n  - name: d\n    key: {file: /d}\n")
	f([]string{"/a", "/d", "/keys.yaml"}, key("a", key1+"-again"), key("d", key3+"-again"))
	w.set("/keys.yaml", "[]")
	f([]string{"/a", "/keys.yaml"}, key("a", key1+"-again"))
	if !reflect.DeepEqual(c.Auth.Keys, before) {
		t.Errorf("reading again changed the configuration: %v", c.Auth.Keys)
	}
}

// TestReadingAgainFailsWhole holds that a bad file gives no keys at all, says why, and is forgotten when it is mended.
func TestReadingAgainFailsWhole(t *testing.T) {
	t.Parallel()
	good := "- {name: b, key: {value: " + key2 + "}}\n"
	w := &files{text: map[string]string{"/a": key1, "/keys.yaml": good}}
	o := w.options(t)
	c, problems := Parse("c.yaml", []byte(agents+"auth:\n  keys:\n    - name: a\n      key: {file: /a}\n      limits: {requests: 1/s}\n  keys_file: /keys.yaml\n"), o)
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	f := func(path, text string, want ...string) {
		t.Helper()
		before := w.text[path]
		w.set(path, text)
		keys, problems := c.ReadKeys()
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if watched := c.WatchedFiles(); !slices.Contains(watched, "/a") || !slices.Contains(watched, "/keys.yaml") {
			t.Errorf("a file that is broken is watched no more: %q", watched)
		}
		if keys != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %v and\n%s\nwant\n%s", keys, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.set(path, before)
		if keys, problems = c.ReadKeys(); len(keys) != 2 || len(problems) > 0 {
			t.Errorf("mended: got %v, %v", keys, problems)
		}
	}
	f("/a", "", "c.yaml:7: auth.keys[0].key.file: is empty: write a key of at least 20 bytes; `dragoman key` makes one")
	f("/a", "hunter2", "c.yaml:7: auth.keys[0].key.file: is shorter than 20 bytes, which can be guessed: `dragoman key` makes a good one")
	f("/a", key2, "/keys.yaml:1: [0]: is the same key as c.yaml: auth.keys[0] (line 7): give every caller one of its own")
	f("/keys.yaml", "", "/keys.yaml:1: is empty: write a list of keys, or [] for none")
	f("/keys.yaml", "- {name: b", "/keys.yaml:1: is not valid YAML: did not find expected ',' or '}'")
	f("/keys.yaml", good+"\n- {name: a, key: {value: "+key3+"}}",
		"/keys.yaml:3: [1]: differs from the limits of c.yaml: auth.keys[0] (line 7), which has the same name: keys of one name share their limits, so write the same for both")
	f("/keys.yaml", strings.Repeat("#", maxFile+1), "c.yaml:10: auth.keys_file: is larger than 1MiB")
	w.set("/a", key1)
	delete(w.text, "/keys.yaml")
	if keys, problems := c.ReadKeys(); keys != nil || len(problems) != 1 ||
		problems[0].String() != "c.yaml:10: auth.keys_file: cannot be read: no such file or directory" {
		t.Errorf("missing: got %v, %v", keys, problems)
	}
}

// TestFilesThatAreNotThereYetAreWatched lets a list of keys name a file before it is written, and breaks the list.
func TestFilesThatAreNotThereYetAreWatched(t *testing.T) {
	t.Parallel()
	w := &files{text: map[string]string{"/keys.yaml": "- {name: b, key: {file: /b}}\n", "/b": key2}}
	c, problems := Parse("c.yaml", []byte(agents+"auth: {keys_file: /keys.yaml}\n"), w.options(t))
	if c == nil {
		t.Fatal(problems)
	}
	f := func(wantKeys int, watched ...string) {
		t.Helper()
		keys, problems := c.ReadKeys()
		if len(keys) != wantKeys || HasErrors(problems) != (wantKeys == 0) || !reflect.DeepEqual(c.WatchedFiles(), watched) {
			t.Errorf("got %v, %v, and %q is watched, want %q", keys, problems, c.WatchedFiles(), watched)
		}
	}
	w.set("/keys.yaml", "- {name: c, key: {file: /c}}\n")
	f(0, "/b", "/c", "/keys.yaml")
	w.set("/keys.yaml", "- {name")
	f(0, "/b", "/c", "/keys.yaml")
	w.set("/keys.yaml", "- {name: c, key: {file: /c}}\n")
	w.set("/c", key3)
	f(1, "/c", "/keys.yaml")
}

// TestReadingAgainNeverLocksEverybodyOut holds that a file which lost its last key is an error, unless tokens still let
// callers in.
func TestReadingAgainNeverLocksEverybodyOut(t *testing.T) {
	t.Parallel()
	f := func(more string, wantKeys bool) {
		t.Helper()
		w := &files{text: map[string]string{"/keys.yaml": "- {name: b, key: {value: " + key2 + "}}\n", "/jwks.json": `{"keys":[{}]}`}}
		c, problems := Parse("c.yaml", []byte(agents+"auth:\n  keys_file: /keys.yaml\n"+more), w.options(t))
		if c == nil || len(problems) > 0 {
			t.Fatal(problems)
		}
		w.set("/keys.yaml", "[]")
		keys, problems := c.ReadKeys()
		if (keys != nil) != wantKeys || HasErrors(problems) == wantKeys || len(keys) > 0 {
			t.Errorf("got %v, %v", keys, problems)
		}
		if !wantKeys && !strings.HasPrefix(problems[0].String(), "c.yaml:6: auth: holds no key, so nobody could call: run `dragoman key`") {
			t.Errorf("got %v", problems)
		}
	}
	f("", false)
	f("  jwt: {issuer: i, audience: [a], jwks_file: /jwks.json}\n", true)
}

// TestWatchedFilesOfConfigurationsWithoutAny holds that nothing is watched where nothing can change, or nothing counts.
func TestWatchedFilesOfConfigurationsWithoutAny(t *testing.T) {
	t.Parallel()
	if got := parse(t, minimal).WatchedFiles(); got != nil {
		t.Errorf("got %q", got)
	}
	if got := parse(t, agents+"auth: {mode: none, keys_file: /keys.yaml}\n").WatchedFiles(); got != nil {
		t.Errorf("mode none: got %q", got)
	}
	c := &Config{Auth: Auth{Keys: []Key{key("a", key1)}}}
	if got, problems := c.ReadKeys(); len(got) != 1 || problems != nil || c.WatchedFiles() != nil {
		t.Errorf("a configuration that was not read: got %v, %v", got, problems)
	}
}

// TestKeysMayBeReadAtTheSameTime is for the race detector.
func TestKeysMayBeReadAtTheSameTime(t *testing.T) {
	t.Parallel()
	c := parse(t, agents+"auth: {keys_file: /keys-list.yaml}\n")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if keys, problems := c.ReadKeys(); len(keys) != 1 || len(c.WatchedFiles()) != 1 {
					t.Error(keys, problems)
				}
			}
		})
	}
	wg.Wait()
}

// TestOnlyTheHashOfAKeyIsKept looks for a key in everything that a configuration reaches.
func TestOnlyTheHashOfAKeyIsKept(t *testing.T) {
	t.Parallel()
	c := parse(t, agents+"auth: {keys: [{name: a, key: {value: "+key1+"}}, {name: b, key: {env: CALLER}}, {name: c, key: {file: /caller}}]}\n")
	seen := map[uintptr]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if s := v.String(); strings.Contains(s, key1) || strings.Contains(s, testToken+"-of") || strings.Contains(s, testToken+"-in") {
				t.Errorf("keeps a key: %q", s)
			}
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.Pointer()] {
				seen[v.Pointer()] = true
				walk(v.Elem())
			}
		case reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for _, field := range v.Fields() {
				walk(field)
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		default: // functions stand for the world, in which the keys are
		}
	}
	walk(reflect.ValueOf(c))
	if len(c.Auth.Keys) != 3 || !seen[reflect.ValueOf(c.keys).Pointer()] {
		t.Error("nothing was looked at")
	}
}

// TestTheListenerDecidesWhoMustBeKept holds the rules that fail closed, on every kind of listener.
func TestTheListenerDecidesWhoMustBeKept(t *testing.T) {
	t.Parallel()
	const (
		none  = "auth: {mode: none}\n"
		open  = "auth: {mode: none, allow_unauthenticated: true}\n"
		keyed = "auth: {keys: [{name: a, key: {env: CALLER}}]}\n"
		demo  = "auth: {keys: [{name: a, hash: \"sha256:" + demoKeyHash + "\"}]}\n"
		off   = "auth: {keys: [{name: a, disabled: true, hash: \"sha256:" + demoKeyHash + "\"}]}\n"
	)
	f := func(auth, listen, want string) {
		t.Helper()
		check := func(how, path string, c *Config, problems []Problem) {
			t.Helper()
			got := ""
			for _, p := range problems {
				if p.Severity == Error {
					got += p.Path + ": " + p.Message
				}
			}
			if strings.HasPrefix(path, "!") && want != "" { // the key is what is wrong
				path = "auth.keys[0]"
			}
			if (want == "") != (got == "") || want != "" && !strings.HasPrefix(got, path+": "+want) || (c == nil) != (want != "") {
				t.Errorf("%s %s %s: got %q, want %q", how, auth, listen, got, want)
			}
		}
		path := "server.listen"
		if strings.Contains(auth, demoKeyHash) {
			path = "!"
		}
		c, problems := Parse("c.yaml", []byte("server: {listen: \""+listen+"\"}\n"+auth+agents), testOptions(t))
		check("written", path, c, problems)
		if path != "!" {
			path = "-listen"
		}
		o := testOptions(t)
		o.Listen = listen
		c, problems = Parse("c.yaml", []byte(auth+agents), o)
		check("moved", path, c, problems)
	}
	const refused, published = "is open to other hosts while auth.mode is none", "is the published demo key"
	for _, local := range []string{"127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "localhost:80", "[::ffff:127.0.0.1]:80", "unix:/run/d.sock"} {
		for _, auth := range []string{none, open, keyed, demo} {
			f(auth, local, "")
		}
	}
	for _, reachable := range []string{":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[2001:db8::1]:80", "[fe80::1%eth0]:80", "128.0.0.1:80"} {
		f(none, reachable, refused)
		f(open, reachable, "")
		f(keyed, reachable, "")
		f(demo, reachable, published)
		f(off, reachable, published)
	}
}

// TestTheDemoKeyIsRefusedInEveryForm presents it as text, in a file of keys, and in one that is read again.
func TestTheDemoKeyIsRefusedInEveryForm(t *testing.T) {
	t.Parallel()
	w := &files{text: map[string]string{"/keys.yaml": "- {name: a, key: {value: " + key1 + "}}\n"}}
	c, problems := Parse("c.yaml", []byte("server: {listen: \":80\"}\n"+agents+"auth: {keys_file: /keys.yaml}\n"), w.options(t))
	if c == nil {
		t.Fatal(problems)
	}
	w.set("/keys.yaml", "- {name: a, hash: \"sha256:"+demoKeyHash+"\"}\n")
	if keys, problems := c.ReadKeys(); keys != nil || len(problems) != 1 || !strings.Contains(problems[0].String(), "is the published demo key") {
		t.Errorf("got %v, %v", keys, problems)
	}
}

// TestSidecarKeysComeFromTheEnvironment holds every form of a key there.
func TestSidecarKeysComeFromTheEnvironment(t *testing.T) {
	t.Parallel()
	hash := sha256.Sum256([]byte(key1))
	text := "sha256:" + hex.EncodeToString(hash[:])
	unnamed := "key-" + hex.EncodeToString(hash[:4])
	f := func(variable string, want ...Key) {
		t.Helper()
		o := testOptions(t)
		o.Getenv = func(name string) (string, bool) { return variable, name == "DRAGOMAN_KEYS" }
		for _, mode := range []string{"", "keys"} {
			c, problems := Sidecar([]string{"a=chat+demo:chat"}, ":80", mode, o)
			if c == nil || len(problems) > strings.Count(variable, "$$") || !reflect.DeepEqual(c.Auth.Keys, want) || c.Auth.Mode != "keys" {
				t.Errorf("%q: got %v (%v), want %v", variable, c, problems, want)
			} else if again, problems := c.ReadKeys(); len(problems) > 0 || !reflect.DeepEqual(again, want) || c.WatchedFiles() != nil {
				t.Errorf("%q: read again: got %v (%v), want %v", variable, again, problems, want)
			}
		}
	}
	f(key1, Key{Name: unnamed, Hash: hash})
	f(text, Key{Name: unnamed, Hash: hash})
	f("web="+key1, key("web", key1))
	f("web="+text, key("web", key1))
	f(" web="+key1+",app="+key2+" ,\n\t"+key3+"\n", key("web", key1), key("app", key2), key3Unnamed())
	// rotation
	f("web="+key1+",web="+key2, key("web", key1), key("web", key2))
	// what comes after the first = is the key
	f("web="+key1+"==", key("web", key1+"=="))
	// nothing is expanded
	f("web=$$-"+key1, key("web", "$$-"+key1))
}

func key3Unnamed() Key {
	h := sha256.Sum256([]byte(key3))
	return Key{Name: fmt.Sprintf("key-%x", h[:4]), Hash: h}
}

// TestSidecarRefusesBadKeys holds the problems of keys in the environment, which quote none.
func TestSidecarRefusesBadKeys(t *testing.T) {
	t.Parallel()
	const (
		noKey = "no key is set, so nobody could call: put keys into the environment variable DRAGOMAN_KEYS (`dragoman key` makes one), or write -auth none, which lets everybody in who reaches the listener"
		short = "is shorter than 20 bytes, which can be guessed: `dragoman key` makes a good one"
		empty = "is empty: write a key of at least 20 bytes; `dragoman key` makes one"
		named = " (what comes before the first = is the key's name, so a key that holds one needs a name: name=key)"
	)
	f := func(variable, listen, auth string, want ...string) {
		t.Helper()
		o := testOptions(t)
		o.Getenv = func(name string) (string, bool) { return variable, name == "DRAGOMAN_KEYS" && variable != "unset" }
		c, problems := Sidecar([]string{"a=chat+demo:chat"}, listen, auth, o)
		var got []string
		for _, p := range problems {
			got = append(got, strings.TrimPrefix(p.String(), "command line: "))
		}
		if (c == nil) != HasErrors(problems) || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q: got\n%s\nwant\n%s", variable, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if strings.Contains(strings.Join(got, ""), "hunter2") {
			t.Errorf("quotes a key: %q", got)
		}
	}
	f("unset", "", "", noKey)
	f("", "", "", noKey)
	f(" ,\n", "", "keys", noKey)
	f("hunter2", "", "", "DRAGOMAN_KEYS[0]: "+short)
	f("web=hunter2,app="+key1, "", "", "DRAGOMAN_KEYS[0]: "+short+named)
	f("web=", "", "", "DRAGOMAN_KEYS[0]: "+empty+named)
	f("aHVudGVyMmh1bnRlcjJodW50ZXIy==", "", "", "DRAGOMAN_KEYS[0]: "+short+named)
	f("hunter2-hunter2-hünter2", "", "", "DRAGOMAN_KEYS[0]: holds a space, a line break or another character that is not visible ASCII, which no header carries: `dragoman key` makes a good one")
	f("sha256:hunter2", "", "", "DRAGOMAN_KEYS[0]: wants sha256: and 64 hexadecimal digits, as `dragoman key` prints them")
	f("web|hunter2="+key1, "", "", "DRAGOMAN_KEYS[0]: has a name that is not 1 to 64 letters, digits, dots, underscores and hyphens: write name=key")
	f(key1+",web="+key1, "", "", "DRAGOMAN_KEYS[1]: is the same key as DRAGOMAN_KEYS[0]: give every caller one of its own")
	f("sha256:"+demoKeyHash, "", "")
	f("sha256:"+demoKeyHash, ":80", "", "DRAGOMAN_KEYS[0]: is the published demo key, which everybody knows, on a listener that other hosts reach: "+
		"take it out and run `dragoman key` for one of your own")
	f("sha256:"+strings.Repeat("0", 64), "", "", "DRAGOMAN_KEYS[0]: wants sha256: and 64 hexadecimal digits, as `dragoman key` prints them")
	f("hunter2!hunter2!hunter2", "", "", "warning: DRAGOMAN_KEYS[0]: holds a character that Authorization: Bearer has no place for: callers can present the key as x-api-key only")
	f("unset", "", "none")
	f("unset", ":80", "none", "server.listen: is open to other hosts while -auth none lets everybody in: put keys into the environment variable "+
		"DRAGOMAN_KEYS instead, or listen on a loopback address or a unix socket")
	f("unset", "", "off", `auth.mode: wants one of keys, none, not "off"`)
	f(key1, "", "none", "warning: auth.mode: none lets everybody in: keys and tokens count with mode keys only")
}

// TestKeysOfTheEnvironmentAreForSidecarsOnly tells whoever set them beside a file.
func TestKeysOfTheEnvironmentAreForSidecarsOnly(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Getenv = func(name string) (string, bool) { return key1, name == "DRAGOMAN_KEYS" }
	c, problems := Parse("c.yaml", []byte(agents), o)
	if c != nil || len(problems) != 1 || !strings.HasSuffix(problems[0].Message, "; DRAGOMAN_KEYS is read for a sidecar without a file only") {
		t.Errorf("got %v", problems)
	}
}

// TestForwardingIsSeen holds what Forwards reports.
func TestForwardingIsSeen(t *testing.T) {
	t.Parallel()
	f := func(credential string, want bool) {
		t.Helper()
		c := parse(t, minimal+"    credential: "+credential+"\n")
		if got := c.Forwards(); got != want || c.Agents[0].Credential.Forward != want {
			t.Errorf("%s: got %v, want %v", credential, got, want)
		}
	}
	f("{forward: true}", true)
	f("{forward: false}", false)
	f("{}", false)
	f("{bearer: {env: TOKEN}}", false)
}
