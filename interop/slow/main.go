// Command slow lets slowhttptest at a proxy in its three modes, with a thousand connections each, and meanwhile asks the same proxy as a
// client that behaves. Nothing that this one asks may fail; how long it waited is reported, and decides nothing.
//
//	slow <file with the path of slowhttptest> <proxy binary> <folder for logs>
package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	connections = 1000
	length      = 15 // seconds of each mode
	agents      = 700
	// files are what a thousand connections take: in the tool, and both ends of the good client's in the proxy.
	files = 4096
)

// modes are slowhttptest's, with what each sends.
var modes = []struct {
	name string
	path string
	args []string
}{
	{"slow headers", "/v1/models", []string{"-H", "-i", "1", "-x", "24", "-t", "GET"}},
	{"slow bodies", "/v1/chat/completions", []string{"-B", "-i", "1", "-x", "10", "-s", "8192", "-t", "POST", "-f", "application/json"}},
	// The list of agents, a hundred kilobytes, asked for four times on every connection.
	{"slow reading", "/v1/models", []string{"-X", "-w", "10", "-y", "20", "-n", "1", "-z", "8", "-k", "4", "-t", "GET"}},
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: slow <file with the path of slowhttptest> <proxy binary> <folder for logs>")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(list, proxy, logs string) error {
	text, err := os.ReadFile(list) //nolint:gosec // the caller's own
	if err != nil {
		return err
	}
	tool := strings.TrimSpace(string(text))
	if err := allowFiles(); err != nil {
		return err
	}
	fmt.Printf("plan %d\n", len(modes))
	url, stop, err := start(proxy, logs)
	if err != nil {
		return err
	}
	defer stop()
	failed := false
	for _, m := range modes {
		report, err := attack(tool, url, m.path, filepath.Join(logs, "slow-"+strings.Fields(m.name)[1]), m.args)
		if err != nil {
			fmt.Printf("FAIL slowhttptest: %s: %v\n", m.name, err)
			failed = true
			continue
		}
		fmt.Printf("ok   slowhttptest: %s: %s\n", m.name, report)
	}
	if failed {
		return errors.New("a client that behaved was not served")
	}
	return nil
}

// allowFiles raises the limit of open files, for this process and those that it starts.
func allowFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur < files && l.Max < files {
		return fmt.Errorf("%d open files are allowed and %d needed: raise the hard limit (ulimit -Hn)", l.Max, files)
	}
	l.Cur = max(l.Cur, files)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// start runs the proxy in front of an agent that answers at once.
func start(proxy, logs string) (url string, stop func(), err error) {
	agent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	const answer = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"here"},"finish_reason":"stop"}]}`
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	})}
	go func() { _ = server.Serve(agent) }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	listen := free.Addr().String()
	_ = free.Close()
	var conf strings.Builder
	fmt.Fprintf(&conf, "server: {listen: %q}\nadmin: {listen: \"\"}\nlog: {access: false}\nauth: {mode: none}\nagents:\n  - {name: good, protocol: chat, url: \"http://%s\", model: m}\n", listen, agent.Addr())
	for i := range agents {
		fmt.Fprintf(&conf, "  - {name: filler-%s-%d, protocol: chat, url: \"demo:chat\", model: m}\n", strings.Repeat("x", 40), i)
	}
	file := filepath.Join(logs, "slow.yaml")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(logs, "slow-dragoman.log")) //nolint:gosec // the caller's own
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(proxy, "serve", "-config", file) //nolint:gosec // the caller's own
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = server.Close()
		_ = log.Close()
	}
	url = "http://" + listen
	for range 300 {
		if resp, err := http.Get(url + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url, stop, nil
			}
		}
		select {
		case <-ended:
			return "", nil, errors.New("the proxy ended at once; its log is slow-dragoman.log")
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop()
	return "", nil, errors.New("the proxy did not come up; its log is slow-dragoman.log")
}

// attack runs one mode, and two good clients while it lasts: one on a connection of its own, one that opens another for each request.
func attack(tool, url, path, prefix string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), (length+15)*time.Second)
	defer cancel()
	args = append(slices.Clone(args), "-c", strconv.Itoa(connections), "-r", "500", "-l", strconv.Itoa(length), "-p", "5", "-g", "-o", prefix, "-u", url+path)
	cmd := exec.CommandContext(ctx, tool, args...) //nolint:gosec // the caller's own
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return "", err
	}
	over := make(chan struct{})
	var wg sync.WaitGroup
	var took [2][]time.Duration
	var wrong [2]error
	for i := range took {
		wg.Go(func() {
			client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: i == 1}}
			defer client.CloseIdleConnections()
			for wrong[i] == nil {
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
				at := time.Now()
				wrong[i] = ask(client, url)
				took[i] = append(took[i], time.Since(at))
			}
		})
	}
	err := cmd.Wait()
	lasted := time.Since(begun)
	close(over)
	wg.Wait()
	_ = os.WriteFile(prefix+".log", out.Bytes(), 0o600)
	// It ends with 1 when the server has closed all its connections, which is what it should do.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	if err := errors.Join(wrong[:]...); err != nil {
		return "", err
	}
	opened, peak, err := counted(prefix + ".csv")
	if err != nil {
		return "", err
	}
	if opened < connections {
		return "", fmt.Errorf("slowhttptest opened %d connections of %d; its log is %s.log", opened, connections, prefix)
	}
	return fmt.Sprintf("%d connections, %d at a time, in %.0f s; requests that behaved: %s on a connection kept, %s on a new one each, none failed",
		opened, peak, lasted.Seconds(), percentiles(took[0]), percentiles(took[1])), nil
}

// ask is one request of a client that behaves.
func ask(client *http.Client, url string) error {
	resp, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"good","messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("here")) {
		return fmt.Errorf("a good request was answered with %d: %s", resp.StatusCode, body)
	}
	return nil
}

// counted reads the tool's table: connections opened in all, and open at once.
func counted(file string) (opened, peak int, err error) {
	f, err := os.Open(file) //nolint:gosec // the caller's own
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return 0, 0, err
	}
	for _, row := range rows {
		if len(row) < 4 {
			continue
		}
		closed, _ := strconv.Atoi(strings.TrimSpace(row[1]))
		pending, _ := strconv.Atoi(strings.TrimSpace(row[2]))
		connected, _ := strconv.Atoi(strings.TrimSpace(row[3]))
		opened, peak = max(opened, closed+pending+connected), max(peak, connected)
	}
	return opened, peak, nil
}

func percentiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	ms := func(p int) string {
		return strconv.FormatFloat(float64(d[min(len(d)-1, len(d)*p/100)].Microseconds())/1000, 'f', 1, 64)
	}
	return fmt.Sprintf("%d, p50 %s ms, p99 %s ms", len(d), ms(50), ms(99))
}
