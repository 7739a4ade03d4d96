package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// TestMain is also the program that is killed, or that finds no room.
func TestMain(m *testing.M) {
	switch path := os.Getenv("STATE_TEST_FILE"); os.Getenv("STATE_TEST_AS") {
	case "writer":
		writer(path, os.Stdout)
	case "squeezed":
		squeezed(path)
	default:
		m.Run()
	}
}

// writer saves turn after turn, each in two conversations at once, and says which it has saved, until it is killed.
func writer(path string, w io.Writer) {
	f, err := OpenFile(path, Limits{MaxBytes: 1 << 20})
	if err != nil {
		fmt.Fprintln(w, "error:", err)
		return
	}
	fmt.Fprintln(w, "open")
	for n := 0; ; n++ {
		conv := fmt.Sprintf("%d-%d", os.Getpid(), n/50)
		value := strings.Repeat(fmt.Sprintf("%d ", n), 1+rand.N(400))
		err := f.Save(background, "ann", Change{
			Remove: []Ref{{Conv: "latest"}},
			Put:    []Entry{put(conv, Turn, fmt.Sprintf("%06d", n), value), put(conv+"-twin", Turn, fmt.Sprintf("%06d", n), value), put("latest", Object, "n", fmt.Sprintf("%s/%06d", conv, n))},
		})
		if err != nil {
			fmt.Fprintln(w, "error:", err)
			return
		}
		fmt.Fprintf(w, "%s/%06d\n", conv, n)
	}
}

func as(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0]) // #nosec G204 -- this test itself
	c.Env = append(os.Environ(), "STATE_TEST_AS="+what, "STATE_TEST_FILE="+path)
	return c
}

// TestNothingIsLostToAKill: whatever was acknowledged is there, whole, and no half of a change.
func TestNothingIsLostToAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	for round := range 12 {
		c := as(t, "writer", path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		if lines.Text() != "open" {
			t.Fatalf("round %d: %s", round, lines.Text())
		}
		last := ""
		for left := rand.N(120); left >= 0 && lines.Scan(); left-- {
			last = lines.Text()
		}
		_ = c.Process.Kill()
		for lines.Scan() { // what it had said by then
			last = lines.Text()
		}
		_ = c.Wait()

		f, err := OpenFile(path, Limits{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		latest := value(t, f, "ann", Ref{"latest", Object, "n"})
		if latest < last && len(latest) == len(last) {
			t.Errorf("round %d: %s was acknowledged, and %s is the latest", round, last, latest)
		}
		conv, name, _ := strings.Cut(last, "/")
		for _, conv := range []string{conv, conv + "-twin"} {
			if !strings.Contains(" "+turns(t, f, "ann", conv), " "+name+"=") {
				t.Errorf("round %d: %s of %s is gone", round, name, conv)
			}
		}
		latestConv, _, _ := strings.Cut(latest, "/")
		if a, b := turns(t, f, "ann", latestConv), turns(t, f, "ann", latestConv+"-twin"); a != b || a == "" {
			t.Errorf("round %d: half a change:\n%.200s\n%.200s", round, a, b)
		}
		sum := int64(0)
		for c := f.index.recent.Front(); c != nil; c = c.Next() {
			sum += c.Value.(*fileConv).bytes
		}
		if got := f.Stats().Bytes; got != sum || got > 1<<20 || got != f.measure(t) {
			t.Errorf("round %d: %d bytes, the sum is %d, in the file are %d", round, got, sum, f.measure(t))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// measure is what the entries in the file take.
func (f *File) measure(t *testing.T) (n int64) {
	t.Helper()
	err := f.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(fileEntries).ForEach(func(k, v []byte) error {
			part := strings.SplitN(string(k), "/", 3)
			n += entrySize(Ref{part[1], Kind(part[2][0]), part[2][1:]}, v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTheFileOutlivesItsProcess: conversations, their sizes and the order of their use.
func TestTheFileOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	path, c := filepath.Join(t.TempDir(), "state.db"), newClock()
	open := func() *File {
		f, err := openFile(path, Limits{MaxOwnerBytes: 1000}, c.Now)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	for _, conv := range []string{"1", "2", "3"} {
		c.pass(time.Second)
		save(t, f, "ann", Change{Put: []Entry{put(conv, Turn, "1", strings.Repeat("x", 200))}})
	}
	c.pass(time.Second)
	turns(t, f, "ann", "1")
	before := f.Stats()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open()
	defer f.Close()
	if got := f.Stats(); got != before {
		t.Errorf("got %+v, want %+v", got, before)
	}
	c.pass(time.Second)
	save(t, f, "ann", Change{Put: []Entry{put("4", Turn, "1", strings.Repeat("x", 200))}})
	if turns(t, f, "ann", "1") == "" || turns(t, f, "ann", "2") != "" {
		t.Error("the order of their use is forgotten")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestOneProcessAtATime has the file.
func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := OpenFile(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := as(t, "writer", path).Output()
	if got, want := strings.TrimSpace(string(out)), "error: "+path+" is in use by another process"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	save(t, f, "ann", Change{Put: []Entry{put("c", Turn, "1", "x")}})
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestOtherFilesAreRefused, and left as they are.
func TestOtherFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	f, err := OpenFile(good, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		save(t, f, "ann", Change{Put: []Entry{put(fmt.Sprint(i), Turn, "1", strings.Repeat("x", 300))}})
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"text": []byte(strings.Repeat("listen: 127.0.0.1\n", 1000)), "short": []byte("x"), "half": whole[:len(whole)/2],
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path, Limits{})
		if err == nil {
			t.Errorf("%s was taken", name)
			_ = f.Close()
			continue
		}
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(data) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "no", "such", "directory")} {
		if _, err := OpenFile(path, Limits{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestFreeRoomIsGivenBack when the file is opened again, and while it is open.
func TestFreeRoomIsGivenBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	f, err := OpenFile(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	fill := func() {
		t.Helper()
		for i := range 24 {
			save(t, f, "ann", Change{Put: []Entry{put(fmt.Sprintf("big%d", i), Turn, "1", strings.Repeat("x", 1<<20))}})
		}
		for i := range 24 {
			save(t, f, "ann", Change{Remove: []Ref{{Conv: fmt.Sprintf("big%d", i)}}})
		}
	}
	save(t, f, "ann", Change{Put: []Entry{put("c", Turn, "1", "kept")}})
	fill()
	full := size()
	if err := f.compact(); err != nil { // as the writer does when it rests
		t.Fatal(err)
	}
	if got := size(); got > full/4 || turns(t, f, "ann", "c") != "1=kept" {
		t.Errorf("%d of %d bytes", got, full)
	}
	save(t, f, "ann", Change{Put: []Entry{put("c", Turn, "2", "after")}})
	if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	out, _ := as(t, "writer", path).Output()
	if !strings.Contains(string(out), "is in use by another process") {
		t.Errorf("the new file is not locked: %s", out)
	}
	fill()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	full = size()
	if err := os.WriteFile(path+compactSuffix, []byte("half of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFile(path, Limits{}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := size(); got > full/4 || turns(t, f, "ann", "c") != "1=kept 2=after" {
		t.Errorf("%d of %d bytes: %s", got, full, turns(t, f, "ann", "c"))
	}
}

// TestAFullDiskIsAnError, and nothing more: what was kept can be read, and there is room again when there is.
func TestAFullDiskIsAnError(t *testing.T) {
	t.Parallel()
	c := as(t, "squeezed", filepath.Join(t.TempDir(), "state.db"))
	out, err := c.CombinedOutput()
	if string(out) == "not here\n" {
		t.Skip("files cannot be limited here")
	}
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("%v: %s", err, out)
	}
}

// fullDisk is the test in a process of its own, where squeeze bounds the size of files.
func fullDisk(path string, squeeze func(bytes uint64) error, w io.Writer) error {
	f, err := OpenFile(path, Limits{})
	if err != nil {
		return err
	}
	if err := squeeze(1 << 20); err != nil {
		return err
	}
	kept := 0
	for {
		err = f.Save(background, "ann", Change{Put: []Entry{put("c", Turn, fmt.Sprintf("%04d", kept), strings.Repeat("x", 10_000))}})
		if err != nil {
			break
		}
		if kept++; kept > 1000 {
			return errors.New("the disk is never full")
		}
	}
	if !strings.Contains(err.Error(), path+" cannot be written") {
		return fmt.Errorf("the error is %w", err)
	}
	for range 3 { // again and again
		if err := f.Save(background, "ann", Change{Put: []Entry{put("d", Turn, "1", strings.Repeat("x", 100_000))}}); err == nil {
			return errors.New("there was room all of a sudden")
		}
	}
	found, err := f.Read(background, "ann", Read{Convs: []string{"c", "d"}})
	if err != nil || len(found.Turns[0]) != kept || found.Turns[1] != nil {
		return fmt.Errorf("%d of %d are there, %v", len(found.Turns[0]), kept, err)
	}
	if n := f.Stats().Conversations; n != 1 {
		return fmt.Errorf("%d conversations", n)
	}
	if err := squeeze(64 << 20); err != nil {
		return err
	}
	if err := f.Save(background, "ann", Change{Put: []Entry{put("d", Turn, "1", strings.Repeat("x", 100_000))}}); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintln(w, "ok")
	return nil
}
