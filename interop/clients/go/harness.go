package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience is how long a test may take; what takes longer hangs.
const patience = time.Minute

var (
	proxyURL  = os.Getenv("DRAGOMAN_URL")
	realURL   = os.Getenv("CYCLS_REAL_URL")
	brokenURL = os.Getenv("CYCLS_BROKEN_URL")
)

// expected is what every agent says to the prompt.
type expected struct {
	Prompt string
	Agents map[string]struct {
		Text      string
		Reasoning string
		Usage     bool
	}
}

func readExpected(clients string) (*expected, error) {
	b, err := os.ReadFile(filepath.Join(clients, "expected.json"))
	if err != nil {
		return nil, err
	}
	e := &expected{}
	return e, json.Unmarshal(b, e)
}

// readNames reads the names of all agents that the proxy has in front of it.
func readNames(clients string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(clients, "..", "config.yaml"))
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  - name: (\S+)$`).FindAllSubmatch(b, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	return names, err
}

// t is one test. Its methods end the test when what they check does not hold.
type t struct{}

type failed struct{ why string }

func (t) fatal(format string, args ...any) {
	_, file, line, _ := runtime.Caller(2)
	panic(failed{fmt.Sprintf("%s:%d: ", filepath.Base(file), line) + fmt.Sprintf(format, args...)})
}

func (x t) check(ok bool, format string, args ...any) {
	if !ok {
		x.fatal(format, args...)
	}
}

func (x t) equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		x.fatal("\n   got %#v\n  want %#v", got, want)
	}
}

func (x t) ok(err error) {
	if err != nil {
		x.fatal("%v", err)
	}
}

// release lets the agent that waits under a name go on.
func (x t) release(name string) {
	r, err := http.Post(realURL+"/interop/release/"+name, "", nil)
	x.ok(err)
	x.ok(r.Body.Close())
	x.equal(r.StatusCode, 200)
}

// closed waits until the agent that holds under this name was cancelled.
func (x t) closed(name string) {
	r, err := (&http.Client{Timeout: patience / 2}).Get(realURL + "/interop/closed/" + name)
	x.ok(err)
	x.ok(r.Body.Close())
	x.equal(r.StatusCode, 200)
}

// runs is how often the broken agent was run with a prompt.
func (x t) runs(prompt string) int {
	r, err := http.Get(brokenURL + "/interop/runs?prompt=" + url.QueryEscape(prompt))
	x.ok(err)
	defer func() { x.ok(r.Body.Close()) }()
	var got struct{ Runs int }
	x.ok(json.NewDecoder(r.Body).Decode(&got))
	return got.Runs
}

// fresh is a name that no other test uses.
func fresh() string { return rand.Text() }

type test struct {
	name string
	fn   func(t)
}

// run returns the line of a test.
func (c *test) run(client string) (line string) {
	done := make(chan string, 1)
	go func() {
		defer func() {
			switch r := recover().(type) {
			case nil:
				done <- ""
			case failed:
				done <- r.why
			default:
				done <- fmt.Sprint("panic: ", r)
			}
		}()
		c.fn(t{})
	}()
	why := ""
	select {
	case why = <-done:
	case <-time.After(patience):
		why = "it hangs"
	}
	if why == "" {
		return "ok   " + client + ": " + c.name
	}
	return "FAIL " + client + ": " + c.name + "\n     " + strings.ReplaceAll(why, "\n", "\n     ")
}

var errFailed = errors.New("tests failed")

// runAll runs all tests, a few at a time, and prints a line for each.
func runAll(client string, tests []test) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "plan %d\n", len(tests))
	var mu sync.Mutex
	var err error
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range tests {
		wg.Go(func() {
			slots <- struct{}{}
			line := tests[i].run(client)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(line, "FAIL") {
				err = errFailed
			}
			fmt.Fprintln(&out, line)
		})
	}
	wg.Wait()
	if _, e := os.Stdout.Write(out.Bytes()); e != nil {
		return e
	}
	return err
}
