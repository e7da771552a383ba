import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct VMCoreInfoTests {
  static let text = """
    OSRELEASE=6.1.0-56-amd64
    BUILD-ID=eb4fbcd037e7
    SYMBOL(_stext)=ffffffff9e200000
    SYMBOL(broken)=fffffffff9e200000
    SIZE(page)=64
    OFFSET(list_head.prev)=8
    LENGTH(mem_section)=4096
    NUMBER(phys_base)=-343932928
    NUMBER(pgtable_l5_enabled)=1
    NUMBER(hex)=0xffffffffffffffff
    NUMBER(huge)=99999999999999999999
    KERNELOFFSET=1d200000
    NUMBER(phys_base)=1
    nonsense
    =
    """

  @Test func readsLines() {
    let info = VMCoreInfo(text: Array(Self.text.utf8))
    #expect(info.release == "6.1.0-56-amd64")
    #expect(info.buildID == "eb4fbcd037e7")
    #expect(info.symbol("_stext") == VirtualAddress(0xffff_ffff_9e20_0000))
    #expect(info.symbol("broken") == nil)
    #expect(info.symbol("absent") == nil)
    #expect(info.size("page") == 64)
    #expect(info.offset("list_head.prev") == 8)
    #expect(info.length("mem_section") == 4096)
    #expect(info.physicalBase == -343_932_928)
    #expect(info.hasFiveLevelPaging)
    #expect(info.number("hex") == -1)
    #expect(info.number("huge") == nil)
    #expect(info.kernelOffset == 0x1d20_0000)
  }

  @Test func survivesAnyBytes() {
    #expect(VMCoreInfo(text: []).release == "")
    #expect(VMCoreInfo(text: [0xFF, 0xFE, 0x0A, 0x3D, 0x0A, 0x0A]).physicalBase == 0)
    #expect(VMCoreInfo(text: [UInt8](repeating: 0x3D, count: 70_000)).symbol("x") == nil)
  }
}
