// Command redis runs the tests of limits and conversations that are shared in a real Redis server: those of the packages ratelimit and state, which need one, with each
// server that was found, and then two proxies that share one.
//
//	redis <test binaries, with commas between> <proxy binary> <file with paths of servers> <folder for logs>
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: redis <test binary>,... <proxy binary> <file with paths of servers> <folder for logs>")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run tells the plan, then each test.
func run(binaries, proxy, list, logs string) error {
	text, err := os.ReadFile(list) //nolint:gosec // the caller's own
	if err != nil {
		return err
	}
	servers := strings.Fields(string(text))
	if len(servers) == 0 {
		return fmt.Errorf("%s names no server", list)
	}
	names, total := map[string][]string{}, 0
	for _, tests := range strings.Split(binaries, ",") {
		if names[tests], err = testNames(tests, servers[0]); err != nil {
			return err
		}
		total += len(names[tests])
	}
	fmt.Printf("plan %d\n", len(servers)*total+len(pairs))
	failed := false
	for i, server := range servers {
		for _, tests := range strings.Split(binaries, ",") {
			log := filepath.Join(logs, fmt.Sprintf("%s-%d.log", strings.TrimSuffix(filepath.Base(tests), ".test"), i))
			good, err := runTests(tests, server, log, names[tests])
			if err != nil {
				return err
			}
			failed = failed || !good
		}
	}
	for _, p := range pairs {
		if err := p.run(proxy, servers[0], logs); err != nil {
			failed = true
			fmt.Printf("FAIL two proxies: %s: %v\n", p.name, err)
			continue
		}
		fmt.Printf("ok   two proxies: %s\n", p.name)
	}
	if failed {
		os.Exit(1)
	}
	return nil
}

// runTests runs the tests of a binary against a server, and reports whether all were passed.
func runTests(tests, server, path string, names []string) (good bool, err error) {
	label, err := version(server)
	if err != nil {
		return false, err
	}
	log, err := os.Create(path) //nolint:gosec // the caller's own
	if err != nil {
		return false, err
	}
	cmd := exec.Command(tests, "-test.v", "-test.run", "^TestReal", "-test.timeout", "100s")
	cmd.Env = append(os.Environ(), "REDIS_SERVER="+server)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	wrong := cmd.Run()
	log.Write(out.Bytes())
	log.Close()
	verdict := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if word := strings.Fields(line); len(word) > 2 && word[0] == "---" && !strings.HasPrefix(line, " ") {
			verdict[word[2]] = word[1]
		}
	}
	good = true
	for _, name := range names {
		if verdict[name] == "PASS:" {
			fmt.Printf("ok   %s: %s\n", label, name)
			continue
		}
		good = false
		fmt.Printf("FAIL %s: %s (see %s)\n", label, name, path)
	}
	if wrong != nil && good {
		return false, fmt.Errorf("%s: %w; see %s", label, wrong, path)
	}
	return good, nil
}

// testNames returns the tests that need a server.
func testNames(tests, server string) (names []string, err error) {
	cmd := exec.Command(tests, "-test.list", "^TestReal")
	cmd.Env = append(os.Environ(), "REDIS_SERVER="+server)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s -test.list: %w", tests, err)
	}
	in := bufio.NewScanner(bytes.NewReader(out))
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "TestReal") {
			names = append(names, in.Text())
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no tests", tests)
	}
	return names, nil
}

// version returns a server's name and version: Redis 7.0.15.
func version(server string) (string, error) {
	out, err := exec.Command(server, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", server, err, out)
	}
	word := strings.Fields(string(out))
	for _, w := range word {
		if v, ok := strings.CutPrefix(w, "v="); ok {
			return word[0] + " " + v, nil
		}
	}
	return strings.TrimSpace(string(out)), nil
}
