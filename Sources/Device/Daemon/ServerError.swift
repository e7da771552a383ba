public import Links
import Region

/// Why a daemon cannot serve, or not with the monitors that it was given.
public enum ServerError: Error {
  case noMemory(String)
  /// An address that wants a region where another one has it already.
  case manyRegions(LinkAddress)
  case regionWithoutGPU
  /// More slots than a GPU looks at.
  case tooManySlots(Int)
  case regionWithoutFile(LinkAddress)
  case noKernel(String)
  case mixedMonitors
  case otherKernel(path: String, String, String)
  case compiler(String)
  /// A hypervisor that cannot be asked.
  case hypervisor(String, String)
  /// Keys that cannot be used: the file, and why.
  case keys(String, String)
  /// Memory that cannot be read past the device.
  case closedMemory
}

extension ServerError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noMemory(let path): "\(path): holds no memory; give a RAM file or an image of memory"
    case .manyRegions(let address):
      "--listen \(address): there is one region, and an address before has its file; several remote hosts can share it"
    case .tooManySlots(let slots):
      "--slots \(slots): a GPU looks at \(RegionLayout.mostSlotsOfGPU) at most; ask for fewer, or leave the option out"
    case .regionWithoutGPU: "--region gpu: needs --device gpu, in whose memory the region is to lie"
    case .regionWithoutFile(let address):
      "--region gpu: a GPU's memory has no file, which \(address) is reached by; listen at \(LinkKinds.formsForDevices)"
    case .noKernel(let path):
      "\(path): no kernel was found yet, and a GPU's program is made for one; start again when the host has booted"
    case .mixedMonitors: "--monitors: give sources (.c, .swift) alone, or one program made by `grassd compile`"
    case .otherKernel(let path, let program, let found):
      "\(path) is for kernel \(program), but this host runs \(found); make it again with `grassd compile`"
    case .hypervisor(let path, let why): "--qmp \(path): \(why)"
    case .keys(let path, let why): "\(path): \(why)"
    case .closedMemory: "--acquire-unsealed: needs --device cpu; a GPU's memory is read by its own program alone"
    case .compiler(let why): "the monitors were not compiled: \(why)"
    }
  }
}
