package host

// reached is the part of the DRAM's nominal rate that a read loop gets: what two channels of DDR5 usually give. A machine whose read loop was
// measured needs no such guess.
const reached = 0.85

const giga = 1e9

// Hosts are those that Table predicts.
var Hosts = []Host{
	{
		Name: "16 cores of 5 GB/s", Source: "the host that the codes' default is chosen for",
		CPU: "zen5", Cores: 16, Clock: 4.3 * giga, Core: 5 * giga, Memory: 80 * giga,
	},
	{
		Name: "Ryzen 9950X", Source: "DDR5-6000 on two channels, 96 GB/s, of which 85 % are reached; 64 GB/s for each of two CCDs; base clock. What one core reads alone nobody here has measured: 30 GB/s is a guess, from 28 GB/s on a Zen 4",
		CPU: "zen5", Cores: 16, Clock: 4.3 * giga, Core: 30 * giga, Group: 8, Link: 64 * giga, Memory: reached * 96 * giga,
	},
	{
		Name: "EPYC 9755", Source: "128 cores, DDR5-6400 on twelve channels, 614 GB/s, of which 85 % are reached; base clock; a core as above",
		CPU: "zen5", Cores: 128, Clock: 2.7 * giga, Core: 30 * giga, Memory: reached * 614 * giga,
	},
	{
		Name: "Zen 4, 2 CPUs, fast hours", Source: "measured: a virtual machine whose read loop gives 28 GB/s on one CPU and, at its best, 55 on two",
		CPU: "zen4", Cores: 2, Clock: 3.65 * giga, Core: 28 * giga, Memory: 55 * giga,
	},
}
