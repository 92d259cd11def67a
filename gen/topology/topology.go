// Package topology simulates machines: it writes what Linux tells of their CPUs, caches and memory below /sys, as far as programs built here
// read it. The machines are made from documentation; none was recorded.
//
// Files and their forms are those of Documentation/ABI/testing/sysfs-devices-system-cpu and sysfs-devices-node of the kernel, and
// Documentation/admin-guide/cgroup-v2.rst.
package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine describes a machine with sockets that are all alike. CPUs are numbered as Linux does it on AMD: one of each core first, those
// of a socket in the order of its L3s, and then their SMT siblings.
type Machine struct {
	Sockets int   // 0: 1
	Nodes   int   // NUMA nodes of a socket, "NPS"; 0: 1
	L3      []int // KiB of each L3 of a socket
	Cores   int   // of each L3
	SMT     bool
	Memory  int // GiB of each node; 0: the kernel says nothing of nodes

	RoundRobin bool // CPU numbers go round the sockets, as the firmware of some servers has it

	// What takes away from that.
	Offline  []int  // CPUs
	Affinity []int  // CPUs that the process may use; nil: all
	CPUMax   string // cpu.max of its control group, "quota period" in microseconds; "": no such file
	NoCaches bool   // the kernel says nothing of caches, as in some virtual machines
}

// cpu is a CPU of a machine: indices over all sockets.
type cpu struct {
	core, l3, node, socket int
	siblings               []int
}

// caches of a core of Zen 5, by index; the L3's size is the machine's.
var caches = []struct {
	level int
	kind  string
	kib   int
}{{1, "Data", 48}, {1, "Instruction", 32}, {2, "Unified", 1024}, {3, "Unified", 0}}

// The distances of a node to itself, to others of its socket and to those of another one, as the firmware of AMD servers gives them.
const (
	local     = 10
	neighbour = 12
	remote    = 32
)

func (m Machine) sockets() int { return max(1, m.Sockets) }
func (m Machine) nodes() int   { return max(1, m.Nodes) }

// cpus returns the CPUs by number.
func (m Machine) cpus() []cpu {
	perSocket := len(m.L3) * m.Cores
	cores := m.sockets() * perSocket
	threads := 1
	if m.SMT {
		threads = 2
	}
	all := make([]cpu, cores*threads)
	for id := range all {
		n := id % cores
		socket, place := n/perSocket, n%perSocket
		if m.RoundRobin {
			socket, place = n%m.sockets(), n/m.sockets()
		}
		l3 := place / m.Cores
		c := cpu{core: place, socket: socket, l3: socket*len(m.L3) + l3, node: socket*m.nodes() + l3*m.nodes()/len(m.L3)}
		for s := range threads {
			if other := n + s*cores; !slices.Contains(m.Offline, other) {
				c.siblings = append(c.siblings, other)
			}
		}
		all[id] = c
	}
	return all
}

// list writes numbers as the kernel does: "0-7,16".
func list(ids []int) string {
	ids = slices.Sorted(slices.Values(ids))
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		part := strconv.Itoa(ids[i])
		if j > i {
			part += "-" + strconv.Itoa(ids[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// Write makes dir, which is empty or not there, what /sys would be on the machine: a root for ZT_SYSFS. What the process may use is in the
// file affinity, which a real /sys has not.
func (m Machine) Write(dir string) error {
	for path, text := range m.files() {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files returns the contents of every file by path, without the newline that ends them.
func (m Machine) files() map[string]string {
	const cpuDir, nodeDir = "devices/system/cpu", "devices/system/node"
	f := map[string]string{}
	cpus := m.cpus()
	online := func(yes func(cpu) bool) (ids []int) {
		for id, c := range cpus {
			if !slices.Contains(m.Offline, id) && yes(c) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	all := online(func(cpu) bool { return true })

	f[cpuDir+"/online"] = list(all)
	f[cpuDir+"/present"] = fmt.Sprintf("0-%d", len(cpus)-1)
	f[cpuDir+"/possible"] = f[cpuDir+"/present"]
	for _, id := range all {
		c := cpus[id]
		dir := fmt.Sprintf("%s/cpu%d", cpuDir, id)
		f[dir+"/topology/core_id"] = strconv.Itoa(c.core)
		f[dir+"/topology/physical_package_id"] = strconv.Itoa(c.socket)
		f[dir+"/topology/thread_siblings_list"] = list(c.siblings)
		f[dir+"/topology/core_siblings_list"] = list(online(func(o cpu) bool { return o.socket == c.socket }))
		if m.NoCaches {
			continue
		}
		for i, cache := range caches {
			dir := fmt.Sprintf("%s/cache/index%d", dir, i)
			kib, shared := cache.kib, c.siblings
			if cache.level == 3 {
				kib, shared = m.L3[c.l3%len(m.L3)], online(func(o cpu) bool { return o.l3 == c.l3 })
			}
			f[dir+"/level"] = strconv.Itoa(cache.level)
			f[dir+"/type"] = cache.kind
			f[dir+"/size"] = strconv.Itoa(kib) + "K"
			f[dir+"/shared_cpu_list"] = list(shared)
		}
	}

	if m.Memory > 0 {
		n := m.sockets() * m.nodes()
		numbers := make([]int, n)
		for node := range n {
			numbers[node] = node
			dir := fmt.Sprintf("%s/node%d", nodeDir, node)
			f[dir+"/cpulist"] = list(online(func(o cpu) bool { return o.node == node }))
			kib := m.Memory << 20
			f[dir+"/meminfo"] = fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %d MemFree:        %d kB\nNode %d MemUsed:        %d kB",
				node, kib, node, kib/2, node, kib/2)
			var distances []string
			for other := range n {
				distance := remote
				switch {
				case other == node:
					distance = local
				case other/m.nodes() == node/m.nodes():
					distance = neighbour
				}
				distances = append(distances, strconv.Itoa(distance))
			}
			f[dir+"/distance"] = strings.Join(distances, " ")
		}
		f[nodeDir+"/online"] = list(numbers)
		f[nodeDir+"/possible"] = list(numbers)
	}

	if m.Affinity != nil {
		f["affinity"] = list(m.Affinity)
	}
	if m.CPUMax != "" {
		f["fs/cgroup/cpu.max"] = m.CPUMax
	}
	return f
}
