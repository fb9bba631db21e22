package network

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Weather is what a line does to each IP packet, whatever is in it and whichever
// way it goes.
type Weather struct {
	Loss   float64       // the part that is lost, 0 to 1
	Delay  time.Duration // on the way
	Jitter time.Duration // up to so much more, so that packets overtake one another
}

// Packets is a line of real IP packets to an address on loopback: two network
// namespaces with a TUN device each, and between the devices this process, which
// loses, delays and reorders what they send. What is sent again, and when, is the
// kernel's TCP's business. Whoever connects to Address and whoever listens at the
// target notice nothing but a slow line: each connection of theirs is carried on by
// one between the namespaces.
//
// It needs Linux, root and /dev/net/tun. Everything ends with Close, or with the
// process.
type Packets struct {
	Address string // connect here

	target    string
	near, far *namespace
	listeners [2]net.Listener // before the line and behind it
	weather   atomic.Pointer[Weather]
	sent      atomic.Int64
	lost      atomic.Int64

	ctx context.Context // ends with Close
	end context.CancelFunc
	all sync.WaitGroup // what dials and carries connections

	mu   sync.Mutex
	open map[net.Conn]bool // nil after Close
}

// The ends of the line (RFC 5737 section 3).
var (
	nearIP = netip.MustParseAddr("192.0.2.1")
	farIP  = netip.MustParseAddr("192.0.2.2")
)

// MissingForPackets names what the machine lacks for such a line; "" is nothing.
func MissingForPackets() string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		missing = append(missing, "/dev/net/tun")
	}
	f.Close()
	return strings.Join(missing, ", ")
}

// NewPackets starts a line in fair weather. What becomes of the n-th packet of a
// direction is settled by the seed.
func NewPackets(target string, seed uint64) (_ *Packets, err error) {
	if err := onLoopback(target); err != nil {
		return nil, err
	}
	p := &Packets{target: target, open: map[net.Conn]bool{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.weather.Store(&Weather{})
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.near, err = newNamespace(nearIP); err != nil {
		return nil, err
	}
	if p.far, err = newNamespace(farIP); err != nil {
		return nil, err
	}
	if err := p.far.within(func() (err error) {
		p.listeners[1], err = net.Listen("tcp", netip.AddrPortFrom(farIP, 0).String())
		return err
	}); err != nil {
		return nil, err
	}
	if p.listeners[0], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	p.Address = p.listeners[0].Addr().String()
	go p.carry(p.near.device, p.far.device, rand.New(rand.NewPCG(seed, 1)))
	go p.carry(p.far.device, p.near.device, rand.New(rand.NewPCG(seed, 2)))
	var d net.Dialer
	p.forward(p.listeners[0], func() (c net.Conn, err error) {
		err = p.near.within(func() (err error) {
			c, err = d.DialContext(p.ctx, "tcp", p.listeners[1].Addr().String())
			return err
		})
		return c, err
	})
	p.forward(p.listeners[1], func() (net.Conn, error) { return d.DialContext(p.ctx, "tcp", p.target) })
	return p, nil
}

// Suffer sets the weather for the packets from now on.
func (p *Packets) Suffer(w Weather) { p.weather.Store(&w) }

// Count is how many packets the two ends have sent and how many of them were lost.
func (p *Packets) Count() (sent, lost int) { return int(p.sent.Load()), int(p.lost.Load()) }

// Retransmitted is how many segments the kernel has sent again, at both ends
// (RetransSegs of RFC 4022).
func (p *Packets) Retransmitted() (n int, err error) {
	for _, ns := range []*namespace{p.near, p.far} {
		if err := ns.within(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			m, err := counter(string(b), "Tcp:", "RetransSegs")
			n += m
			return err
		}); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// counter reads one of /proc/net/snmp: a line of names, and below it one of values.
func counter(snmp, protocol, name string) (int, error) {
	var names []string
	for line := range strings.Lines(snmp) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != protocol {
			continue
		}
		for i, n := range names {
			if n == name && i < len(fields) {
				return strconv.Atoi(fields[i])
			}
		}
		names = fields
	}
	return 0, fmt.Errorf("no %s of %s in /proc/net/snmp", name, protocol)
}

// Close ends the line and every connection over it.
func (p *Packets) Close() error {
	p.end()
	p.mu.Lock()
	for c := range p.open {
		reset(c)
	}
	p.open = nil
	p.mu.Unlock()
	for _, l := range p.listeners {
		if l != nil {
			l.Close()
		}
	}
	p.all.Wait() // dialling enters the namespaces
	for _, ns := range []*namespace{p.near, p.far} {
		if ns != nil {
			ns.Close()
		}
	}
	return nil
}

// mostPacket is what an IP packet can be at most.
const mostPacket = 1 << 16

// carry takes packets from one device to the other.
func (p *Packets) carry(from, to *os.File, chance *rand.Rand) {
	b := make([]byte, mostPacket)
	for {
		n, err := from.Read(b)
		if err != nil {
			return // closed
		}
		w := p.weather.Load()
		// Both drawn for every packet, so that the n-th one's do not depend on the weather before.
		lost, jitter := chance.Float64() < w.Loss, time.Duration(chance.Float64()*float64(w.Jitter))
		p.sent.Add(1)
		if lost {
			p.lost.Add(1)
			continue
		}
		packet := append([]byte(nil), b[:n]...)
		if late := w.Delay + jitter; late > 0 {
			time.AfterFunc(late, func() { to.Write(packet) })
			continue
		}
		to.Write(packet) // what does not fit there is lost, as elsewhere
	}
}

// forward carries on by dial what l accepts, until l is closed.
func (p *Packets) forward(l net.Listener, dial func() (net.Conn, error)) {
	p.all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.connect(in, dial) })
		}
	})
}

func (p *Packets) connect(in net.Conn, dial func() (net.Conn, error)) {
	defer p.drop(in)
	if !p.hold(in) {
		return
	}
	out, err := dial()
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.hold(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(out, in) })
	both.Go(func() { pass(in, out) })
	both.Wait()
}

// pass carries one direction of a connection until it ends, and ends the other one
// the same way.
func pass(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	to.(*net.TCPConn).CloseWrite()
}

func (p *Packets) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		return false
	}
	p.open[c] = true
	return true
}

func (p *Packets) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	c.Close()
}

// namespace is a network namespace (network_namespaces(7)) with one TUN device.
type namespace struct {
	file   *os.File // its own
	home   *os.File // the one that threads come from
	device *os.File // reads and writes one IP packet at a time
}

// newNamespace makes one whose device has an address in a network of four.
func newNamespace(ip netip.Addr) (_ *namespace, err error) {
	n := &namespace{}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.home, err = os.Open(ownNamespace); err != nil {
		return nil, err
	}
	err = n.onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if n.file, err = os.Open(ownNamespace); err != nil {
			return err
		}
		n.device, err = openTUN(ip)
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ownNamespace is the calling thread's.
const ownNamespace = "/proc/thread-self/ns/net"

// within runs f on a thread in the namespace. Sockets that f makes stay there and
// can be used from everywhere.
func (n *namespace) within(f func() error) error {
	return n.onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own and takes that home afterwards. One that
// does not get home is ended, for a locked goroutine's thread ends with it.
func (n *namespace) onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := f()
		if unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func (n *namespace) Close() {
	for _, f := range []*os.File{n.device, n.file, n.home} {
		if f != nil {
			f.Close()
		}
	}
}

// ifreq is struct ifreq of netdevice(7): a name and a union of 24 bytes.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

// openTUN makes the device of the calling thread's namespace and sets it up with
// ip/30 (the kernel's Documentation/networking/tuntap.rst).
func openTUN(ip netip.Addr) (_ *os.File, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	number := func(n uint16) (d [24]byte) { *(*uint16)(unsafe.Pointer(&d)) = n; return d }
	address := func(ip [4]byte) (d [24]byte) { // struct sockaddr_in
		d = number(unix.AF_INET)
		copy(d[4:], ip[:])
		return d
	}
	for _, step := range []struct {
		name    string
		fd      int
		request uintptr
		data    [24]byte
	}{
		{"make a TUN device", fd, unix.TUNSETIFF, number(unix.IFF_TUN | unix.IFF_NO_PI)},
		{"set its address", socket, unix.SIOCSIFADDR, address(ip.As4())},
		{"set its netmask", socket, unix.SIOCSIFNETMASK, address([4]byte{255, 255, 255, 252})},
		{"switch it on", socket, unix.SIOCSIFFLAGS, number(unix.IFF_UP | unix.IFF_RUNNING)},
	} {
		r := ifreq{data: step.data}
		copy(r.name[:], "line")
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(step.fd), step.request, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return nil, fmt.Errorf("%s: %w", step.name, errno)
		}
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil // non-blocking: Close ends a Read
}
