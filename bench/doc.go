// Command bench measures what Dragoman costs: the CPU time its process spends
// on a request, beside that of a bare fasthttp pass-through and of nginx.
//
// Every party is a process of its own: the backend, each contestant, and this
// one, which is the load. The contestants take turns in rounds, so that what
// the machine does meanwhile meets all of them, and medians are compared. Every
// answer is checked, so that nobody wins by leaving something out.
//
// "bench capacity" opens thousands of slow streams at once and tells what one costs in
// memory, and how late its events come; "bench soak" has clients do this and that for
// minutes, and looks whether anything grows or is left.
//
// It needs Linux, which tells the CPU time and the memory of another process.
package main
