package target

import (
	"strings"
	"testing"

	"github.com/klauspost/cpuid/v2"
)

func cpu(vendor string, family, model int, lacks ...cpuid.FeatureID) CPU {
	return CPU{Vendor: vendor, Name: "test CPU", Family: family, Model: model, Has: func(id cpuid.FeatureID) bool {
		for _, l := range lacks {
			if l == id {
				return false
			}
		}
		return true
	}}
}

func TestZen5AcceptsOnlyZen5(t *testing.T) {
	zen5, err := Find("zen5")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cpu  CPU
		ok   bool
	}{
		{"Ryzen 9950X", cpu("AuthenticAMD", 0x1a, 0x44), true},
		{"EPYC Turin", cpu("AuthenticAMD", 0x1a, 0x02), true},
		{"EPYC Turin Dense", cpu("AuthenticAMD", 0x1a, 0x11), true},
		{"last Zen 5 model", cpu("AuthenticAMD", 0x1a, 0x7f), true},
		{"Zen 6", cpu("AuthenticAMD", 0x1a, 0x50), false},
		{"Zen 6 server", cpu("AuthenticAMD", 0x1a, 0x80), false},
		{"Zen 4", cpu("AuthenticAMD", 0x19, 0x61), false},
		{"an Intel with the same numbers", cpu("GenuineIntel", 0x1a, 0x44), false},
		{"Zen 5 with AVX-512 turned off", cpu("AuthenticAMD", 0x1a, 0x44, cpuid.AVX512F), false},
	} {
		if err := zen5.Accepts(c.cpu); (err == nil) != c.ok {
			t.Errorf("%s: Accepts = %v, want accepted %v", c.name, err, c.ok)
		}
	}
}

func TestBringupAcceptsByFeature(t *testing.T) {
	bringup, err := Find("bringup")
	if err != nil {
		t.Fatal(err)
	}
	if err := bringup.Accepts(cpu("GenuineIntel", 6, 143)); err != nil {
		t.Error(err)
	}
	err = bringup.Accepts(cpu("AuthenticAMD", 0x17, 0x31, cpuid.AVX512VNNI))
	if err == nil || !strings.Contains(err.Error(), "AVX512VNNI") {
		t.Errorf("a CPU without VNNI: %v, want an error that names AVX512VNNI", err)
	}
	if bringup.Releasable {
		t.Error("bringup must not be releasable")
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		env  string
		cpu  CPU
		want string
	}{
		{"", cpu("AuthenticAMD", 0x1a, 0x44), "zen5"},
		{"", cpu("AuthenticAMD", 0x19, 0x61), "bringup"},
		{"zen5", cpu("AuthenticAMD", 0x19, 0x61), "zen5"},
	} {
		t.Setenv("ZT_TARGET", c.env)
		if got, err := Choose(c.cpu); err != nil || got.Name != c.want {
			t.Errorf("ZT_TARGET=%q on %v: %s, %v; want %s", c.env, c.cpu, got.Name, err, c.want)
		}
	}
	t.Setenv("ZT_TARGET", "zen9")
	if _, err := Choose(cpu("AuthenticAMD", 0x1a, 0x44)); err == nil || !strings.Contains(err.Error(), "zen9") {
		t.Errorf("ZT_TARGET=zen9: %v, want an error that names it", err)
	}
}
