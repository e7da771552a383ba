/// Why a daemon cannot serve, or not with the monitors that it was given.
public enum ServerError: Error {
  case noMemory(String)
  case manyRegions
  case regionWithoutGPU
  case regionWithoutFile
  case noKernel(String)
  case mixedMonitors
  case otherKernel(path: String, String, String)
  case compiler(String)
}

extension ServerError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noMemory(let path): "\(path): holds no memory; give a RAM file or an image of memory"
    case .manyRegions: "--listen: one shm:// URL at most, since there is one region; several remote hosts can share it"
    case .regionWithoutGPU: "--region gpu: needs --device gpu, in whose memory the region is to lie"
    case .regionWithoutFile:
      "--region gpu: a GPU's memory has no file, which shm:// is reached by; listen at verbs:// or tcp://"
    case .noKernel(let path):
      "\(path): no kernel was found yet, and a GPU's program is made for one; start again when the host has booted"
    case .mixedMonitors: "--monitors: give sources (.c, .swift) alone, or one program made by `grassd compile`"
    case .otherKernel(let path, let program, let found):
      "\(path) is for kernel \(program), but this host runs \(found); make it again with `grassd compile`"
    case .compiler(let why): "the monitors were not compiled: \(why)"
    }
  }
}
