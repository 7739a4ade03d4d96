package proxy

import "sync"

// buffer is a pooled byte slice.
type buffer struct{ b []byte }

// keptBuffer is the largest buffer that goes back to the pool: a rare large
// body must not stay in memory for ever.
const keptBuffer = 256 << 10

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4096)} }}

func takeBuffer() *buffer {
	b := buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
	b.b = b.b[:0]
	return b
}

func (b *buffer) drop() {
	if cap(b.b) <= keptBuffer {
		buffers.Put(b)
	}
}

var chunkWriters = sync.Pool{New: func() any { return &chunkWriter{buf: make([]byte, 0, 4096)} }}

func takeChunkWriter() *chunkWriter {
	return chunkWriters.Get().(*chunkWriter) //nolint:forcetypeassert // the pool holds nothing else
}

func dropChunkWriter(w *chunkWriter) {
	if cap(w.buf) <= keptBuffer {
		chunkWriters.Put(w)
	}
}
