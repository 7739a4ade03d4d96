package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	fileVersion = "1"
	// fileWait is how long another process may hold the file, which one that is about to end does.
	fileWait = time.Second
	// fileBatch is how many changes share one write to the disk at most.
	fileBatch = 256
	// fileRest is how long it takes at most until a conversation's last use is written down.
	fileRest = time.Minute
	// compactFrom is the size of a file that is worth compacting, if half of it is free.
	compactFrom = 8 << 20
)

var (
	fileEntries = []byte("entries") // owner/conversation/kind name → value
	fileConvs   = []byte("convs")   // owner/conversation → size and last use
	fileMeta    = []byte("meta")
)

// File keeps conversations in a file, for one process at a time. What Save has acknowledged is on the disk: it
// outlives the process, however it ends, and the machine, if its disk keeps what it was told to. Reads do not wait for writes.
//
// Changes that come at the same time share a write. When a conversation was used last is written along with the next
// change, or after a minute: a crash may forget the latest.
type File struct {
	limits Limits
	now    func() time.Time
	path   string

	swap sync.RWMutex // held while the database is used; written when another takes its place
	db   *bbolt.DB

	mu     sync.Mutex // of the index
	index  index
	dirty  map[*fileConv]struct{} // whose last use is not written down
	leases leases

	queue  chan *fileSave
	quit   chan struct{}
	closed sync.Once
	gone   chan struct{} // the writer has ended
	shut   error
}

// fileSave is a change that waits to be written.
type fileSave struct {
	owner  string // hashed
	change Change
	done   chan error
}

var _ Store = (*File)(nil)

// OpenFile opens the file, or makes it; its directory must exist. The errors name the file: another process has it, it is none of ours, it
// cannot be written.
func OpenFile(path string, l Limits) (*File, error) { return openFile(path, l, time.Now) }

func openFile(path string, l Limits, now func() time.Time) (f *File, err error) {
	if err := checkStateFile(path); err != nil {
		return nil, err
	}
	_ = os.Remove(path + compactSuffix) // #nosec G703 -- the configuration's own; of a compaction that was cut short
	db, err := openBolt(path)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s is in use by another process", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s is no file of conversations, or is damaged: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be opened: %w", path, err)
	}
	f = &File{
		limits: l, now: now, path: path, db: db, dirty: map[*fileConv]struct{}{}, leases: leases{},
		queue: make(chan *fileSave, fileBatch), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	f.index.init()
	if err := f.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no file of conversations, or is damaged: %w", path, err), db.Close())
	}
	if err := f.compact(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s cannot be compacted: %w", path, err), f.db.Close())
	}
	go f.write()
	return f, nil
}

// checkStateFile refuses what the database would take for an empty file, or would hang on.
func checkStateFile(path string) error {
	info, err := os.Stat(path) // #nosec G703 -- the configuration's own
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s cannot be opened: %w", path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	}
	return nil
}

func openBolt(path string) (db *bbolt.DB, err error) {
	defer careful()()
	defer recovered(&err)
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: fileWait, FreelistType: bbolt.FreelistMapType})
}

// careful has a page that is not there, because the file was cut, be a panic of the goroutine and not the end of the process.
func careful() func() {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}

// recovered makes an error of a panic: the database panics on pages that make no sense.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file is damaged: %v", p)
	}
}

// load reads what conversations there are, without their values.
func (f *File) load() (err error) {
	defer careful()()
	defer recovered(&err)
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	return f.db.Update(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return errors.New("its end is missing")
		}
		meta, err := tx.CreateBucketIfNotExists(fileMeta)
		if err != nil {
			return err
		}
		switch v := meta.Get([]byte("version")); {
		case v == nil:
			if err := meta.Put([]byte("version"), []byte(fileVersion)); err != nil {
				return err
			}
		case string(v) != fileVersion:
			return fmt.Errorf("it is of version %q", v)
		}
		if _, err := tx.CreateBucketIfNotExists(fileEntries); err != nil {
			return err
		}
		convs, err := tx.CreateBucketIfNotExists(fileConvs)
		if err != nil {
			return err
		}
		var all []*fileConv
		err = convs.ForEach(func(k, v []byte) error {
			owner, name, ok := bytes.Cut(k, []byte{'/'})
			if !ok || len(v) != 16 {
				return errors.New("an entry makes no sense")
			}
			all = append(all, &fileConv{
				owner: string(owner), name: string(name),
				bytes: int64(binary.BigEndian.Uint64(v)), used: time.Unix(0, int64(binary.BigEndian.Uint64(v[8:]))),
			})
			return nil
		})
		if err != nil {
			return err
		}
		f.index.fill(all)
		return nil
	})
}

// hashOwner is how an owner is written down.
func hashOwner(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return hex.EncodeToString(sum[:16])
}

func convKey(owner, conv string) []byte { return []byte(owner + "/" + conv) }

func fileKey(owner string, r Ref) []byte {
	return []byte(owner + "/" + r.Conv + "/" + string(rune(r.Kind)) + r.Name)
}

// view reads the database.
func (f *File) view(do func(*bbolt.Tx) error) (err error) {
	defer careful()()
	defer recovered(&err)
	f.swap.RLock()
	defer f.swap.RUnlock()
	if f.db == nil {
		return ErrClosed
	}
	return f.db.View(do)
}

// Read implements [Store].
func (f *File) Read(ctx context.Context, owner string, r Read) (Found, error) {
	found := Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}
	if err := ctx.Err(); err != nil {
		return found, err
	}
	owner = hashOwner(owner)
	// One that is too old is gone, though it may still be in the file.
	var used []*fileConv
	live := map[string]bool{}
	f.mu.Lock()
	now := f.now()
	look := func(conv string) {
		if c := f.index.find(owner, conv); c != nil && !f.old(c, now) && !live[conv] {
			live[conv] = true
			used = append(used, c)
		}
	}
	for _, conv := range r.Convs {
		look(conv)
	}
	for _, ref := range r.Refs {
		look(ref.Conv)
	}
	f.mu.Unlock()
	hit := map[string]bool{}
	err := f.view(func(tx *bbolt.Tx) error {
		entries := tx.Bucket(fileEntries)
		for i, conv := range r.Convs {
			if !live[conv] {
				continue
			}
			hit[conv] = true
			prefix := fileKey(owner, Ref{conv, Turn, ""})
			c := entries.Cursor()
			for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
				found.Turns[i] = append(found.Turns[i], Entry{Ref{conv, Turn, string(k[len(prefix):])}, bytes.Clone(v)})
			}
		}
		for i, ref := range r.Refs {
			if !live[ref.Conv] || ref.Name == "" {
				continue
			}
			if v := entries.Get(fileKey(owner, ref)); v != nil {
				hit[ref.Conv] = true
				found.Values[i] = append([]byte{}, v...)
			}
		}
		return nil
	})
	if err != nil {
		return Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range used {
		if hit[c.name] && f.index.find(owner, c.name) == c {
			f.index.touch(c, now)
			f.dirty[c] = struct{}{}
		}
	}
	return found, nil
}

func (f *File) old(c *fileConv, now time.Time) bool {
	return f.limits.TTL > 0 && now.Sub(c.used) >= f.limits.TTL
}

// Save implements [Store].
func (f *File) Save(ctx context.Context, owner string, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &fileSave{owner: hashOwner(owner), change: c, done: make(chan error, 1)}
	select {
	case <-f.quit:
		return ErrClosed
	default:
	}
	select {
	case f.queue <- s:
	case <-f.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-s.done:
		return err
	case <-f.gone:
		select {
		case err := <-s.done:
			return err
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		return fmt.Errorf("the disk takes too long: %w", ctx.Err())
	}
}

// write is the one goroutine that changes the file.
func (f *File) write() {
	defer close(f.gone)
	rest := time.NewTicker(fileRest)
	defer rest.Stop()
	for {
		select {
		case s := <-f.queue:
			f.commit(f.gather(s))
		case <-rest.C:
			f.commit(nil)
			_ = f.compact() // it goes on as it is
		case <-f.quit:
			for {
				select {
				case s := <-f.queue:
					f.commit(f.gather(s))
					continue
				default:
				}
				break
			}
			f.commit(nil)
			return
		}
	}
}

// gather takes along what waits.
func (f *File) gather(first *fileSave) []*fileSave {
	all := []*fileSave{first}
	for len(all) < fileBatch {
		select {
		case s := <-f.queue:
			all = append(all, s)
		default:
			return all
		}
	}
	return all
}

// commit writes changes, what has to go, and when conversations were used last.
func (f *File) commit(saves []*fileSave) {
	errs := make([]error, len(saves))
	w := &fileWrite{f: f, now: f.now(), sizes: map[string]*fileSize{}}
	err := w.run(saves, errs)
	if err == nil {
		w.settle()
	}
	for i, s := range saves {
		if err != nil {
			errs[i] = fmt.Errorf("%s cannot be written: %w", f.path, err)
		}
		s.done <- errs[i]
	}
}

// fileWrite is one transaction. The index changes when it is on the disk.
type fileWrite struct {
	f       *File
	now     time.Time
	tx      *bbolt.Tx
	entries *bbolt.Bucket
	convs   *bbolt.Bucket
	sizes   map[string]*fileSize // of the conversations that it changes
	evicted []evicted
	owners  map[string]int64 // what their conversations take by now
	total   int64
	written []*fileConv // whose last use is written down
}

type fileSize struct {
	owner, conv string
	bytes       int64
}

type evicted struct {
	c   *fileConv
	why *int64 // what it counts for
}

func (w *fileWrite) run(saves []*fileSave, errs []error) (err error) {
	defer careful()()
	defer recovered(&err)
	w.f.swap.RLock()
	defer w.f.swap.RUnlock()
	if w.f.db == nil {
		return ErrClosed
	}
	w.f.mu.Lock()
	idle := len(saves) == 0 && len(w.f.dirty) == 0 && len(w.f.index.unused(func(c *fileConv) bool { return w.f.old(c, w.now) })) == 0
	w.f.mu.Unlock()
	if idle {
		return nil
	}
	return w.f.db.Update(func(tx *bbolt.Tx) error {
		w.tx, w.entries, w.convs = tx, tx.Bucket(fileEntries), tx.Bucket(fileConvs)
		w.owners = map[string]int64{}
		w.f.mu.Lock()
		w.total = w.f.index.bytes
		w.f.mu.Unlock()
		if err := w.expire(); err != nil {
			return err
		}
		for i, s := range saves {
			if errs[i] = w.check(s); errs[i] != nil {
				continue
			}
			if err := w.apply(s); err != nil {
				return err
			}
		}
		return w.use()
	})
}

// size is what a conversation takes by now.
func (w *fileWrite) size(owner, conv string) int64 {
	if s, ok := w.sizes[owner+"/"+conv]; ok {
		return s.bytes
	}
	if v := w.convs.Get(convKey(owner, conv)); len(v) == 16 {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

// check says why a change cannot be made.
func (w *fileWrite) check(s *fileSave) error {
	for _, ref := range s.change.Need {
		if w.entries.Get(fileKey(s.owner, ref)) == nil {
			return ErrGone
		}
	}
	written := int64(0)
	for _, n := range w.after(s) {
		if l := w.f.limits.MaxConversationBytes; l > 0 && n > l {
			return ErrTooLarge
		}
		written += n
	}
	if l := w.f.limits.MaxOwnerBytes; l > 0 && written > l {
		return ErrTooLarge
	}
	if l := w.f.limits.MaxBytes; l > 0 && written > l {
		return ErrTooLarge
	}
	return nil
}

// after is what the conversations that a change touches will take.
func (w *fileWrite) after(s *fileSave) map[string]int64 {
	sizes, entries := map[string]int64{}, map[Ref]int64{}
	size := func(conv string) int64 {
		if n, ok := sizes[conv]; ok {
			return n
		}
		return w.size(s.owner, conv)
	}
	whole := map[string]bool{} // removed
	was := func(ref Ref) int64 {
		if n, ok := entries[ref]; ok {
			return n
		}
		if whole[ref.Conv] {
			return 0
		}
		if v := w.entries.Get(fileKey(s.owner, ref)); v != nil {
			return entrySize(ref, v)
		}
		return 0
	}
	for _, ref := range s.change.Remove {
		if ref.Name == "" {
			sizes[ref.Conv], whole[ref.Conv] = 0, true
			for r := range entries {
				if r.Conv == ref.Conv {
					entries[r] = 0
				}
			}
			continue
		}
		sizes[ref.Conv] = size(ref.Conv) - was(ref)
		entries[ref] = 0
	}
	for _, e := range s.change.Put {
		n := entrySize(e.Ref, e.Value)
		sizes[e.Conv] = size(e.Conv) + n - was(e.Ref)
		entries[e.Ref] = n
	}
	return sizes
}

// apply makes a change that was checked, and makes room for it.
func (w *fileWrite) apply(s *fileSave) error {
	sizes := w.after(s)
	for _, ref := range s.change.Remove {
		if ref.Name == "" {
			if err := w.clear(s.owner, ref.Conv); err != nil {
				return err
			}
			continue
		}
		if err := w.entries.Delete(fileKey(s.owner, ref)); err != nil {
			return err
		}
	}
	for _, e := range s.change.Put {
		if err := w.entries.Put(fileKey(s.owner, e.Ref), e.Value); err != nil {
			return err
		}
	}
	for conv, n := range sizes {
		w.account(s.owner, n-w.size(s.owner, conv))
		w.sizes[s.owner+"/"+conv] = &fileSize{s.owner, conv, n}
		if n == 0 {
			if err := w.convs.Delete(convKey(s.owner, conv)); err != nil {
				return err
			}
			continue
		}
		if err := w.convs.Put(convKey(s.owner, conv), sizeValue(n, w.now)); err != nil {
			return err
		}
	}
	return w.makeRoom(s.owner)
}

func (w *fileWrite) account(owner string, n int64) {
	w.owners[owner] += n
	w.total += n
}

// clear removes the entries of a conversation.
func (w *fileWrite) clear(owner, conv string) error {
	prefix := append(convKey(owner, conv), '/')
	var keys [][]byte // a cursor does not stand still while entries go
	c := w.entries.Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := w.entries.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// expire removes what was not used for too long.
func (w *fileWrite) expire() error {
	w.f.mu.Lock()
	all := w.f.index.unused(func(c *fileConv) bool { return w.f.old(c, w.now) })
	w.f.mu.Unlock()
	return w.evictAll(all, &w.f.index.stats.Expired)
}

func (w *fileWrite) evictAll(all []*fileConv, why *int64) error {
	for _, c := range all {
		if err := w.evict(c, why); err != nil {
			return err
		}
	}
	return nil
}

// going reports whether a conversation goes or changes with this write.
func (w *fileWrite) going(c *fileConv) bool {
	_, ok := w.sizes[c.owner+"/"+c.name]
	return ok
}

func (w *fileWrite) evict(c *fileConv, why *int64) error {
	if err := w.clear(c.owner, c.name); err != nil {
		return err
	}
	if err := w.convs.Delete(convKey(c.owner, c.name)); err != nil {
		return err
	}
	w.account(c.owner, -c.bytes)
	w.sizes[c.owner+"/"+c.name] = &fileSize{c.owner, c.name, 0}
	w.evicted = append(w.evicted, evicted{c, why})
	return nil
}

// makeRoom evicts until the owner and the store are within their bounds.
func (w *fileWrite) makeRoom(owner string) error {
	going := func(c *fileConv) bool { return w.going(c) }
	if l := w.f.limits.MaxOwnerBytes; l > 0 {
		w.f.mu.Lock()
		all := w.f.index.victims(owner, w.f.index.owned(owner)+w.owners[owner]-l, going)
		w.f.mu.Unlock()
		if err := w.evictAll(all, &w.f.index.stats.EvictedOwner); err != nil {
			return err
		}
	}
	if l := w.f.limits.MaxBytes; l > 0 {
		w.f.mu.Lock()
		all := w.f.index.victims("", w.total-l, going)
		w.f.mu.Unlock()
		return w.evictAll(all, &w.f.index.stats.EvictedTotal)
	}
	return nil
}

// use writes down when conversations were used last that have only been read.
func (w *fileWrite) use() error {
	w.f.mu.Lock()
	type use struct {
		key, value []byte
	}
	var all []use
	for c := range w.f.dirty {
		w.written = append(w.written, c)
		if !w.going(c) {
			all = append(all, use{convKey(c.owner, c.name), sizeValue(c.bytes, c.used)})
		}
	}
	w.f.mu.Unlock()
	for _, u := range all {
		if w.convs.Get(u.key) == nil {
			continue
		}
		if err := w.convs.Put(u.key, u.value); err != nil {
			return err
		}
	}
	return nil
}

// settle makes the index what the file is.
func (w *fileWrite) settle() {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range w.written {
		delete(f.dirty, c)
	}
	for _, s := range w.sizes {
		f.index.set(s.owner, s.conv, s.bytes, w.now)
	}
	for _, e := range w.evicted {
		*e.why++
	}
}

func sizeValue(n int64, used time.Time) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	binary.BigEndian.PutUint64(b[8:], uint64(used.UnixNano()))
	return b[:]
}

const compactSuffix = ".compact"

// compact writes a file anew of which most is free: pages that are free are used again, but never given back. Until the new one is
// whole the old one stays in its place.
func (f *File) compact() (err error) {
	defer careful()()
	defer recovered(&err)
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	free := int64(f.db.Stats().FreePageN+f.db.Stats().PendingPageN) * int64(f.db.Info().PageSize)
	if info.Size() < compactFrom || free < info.Size()/2 {
		return nil
	}
	next, err := openBolt(f.path + compactSuffix)
	if err != nil {
		return err
	}
	drop := func(err error) error {
		_ = next.Close()
		_ = os.Remove(f.path + compactSuffix)
		return err
	}
	if err := bbolt.Compact(next, f.db, 1<<20); err != nil {
		return drop(err)
	}
	if err := next.Sync(); err != nil {
		return drop(err)
	}
	f.swap.Lock()
	defer f.swap.Unlock()
	if err := os.Rename(f.path+compactSuffix, f.path); err != nil {
		return drop(err)
	}
	syncDir(filepath.Dir(f.path))
	old := f.db
	f.db = next
	return old.Close()
}

// syncDir has a renaming outlive the machine.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil { // #nosec G304 -- the configuration's own
		_ = d.Sync()
		_ = d.Close()
	}
}

// Lease implements [Store]. Leases are those of the process, and end with it.
func (f *File) Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error) {
	if err := f.open(ctx); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases.take(leaseKey{owner, name}, holder, f.now(), ttl), nil
}

// Leased implements [Store].
func (f *File) Leased(ctx context.Context, owner, name string) (string, error) {
	if err := f.open(ctx); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases.holder(leaseKey{owner, name}, f.now()), nil
}

// Release implements [Store].
func (f *File) Release(ctx context.Context, owner, name, holder string) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leases.release(leaseKey{owner, name}, holder)
	return nil
}

func (f *File) open(ctx context.Context) error {
	select {
	case <-f.quit:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// Stats implements [Store].
func (f *File) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.index.snapshot()
}

// Ping implements [Store].
func (f *File) Ping(ctx context.Context) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	return f.view(func(*bbolt.Tx) error { return nil })
}

// Close implements [Store].
func (f *File) Close() error {
	f.closed.Do(func() {
		close(f.quit)
		<-f.gone
		f.swap.Lock()
		defer f.swap.Unlock()
		f.shut = f.db.Close()
		f.db = nil
	})
	return f.shut
}
