import KernelInfo
import KernelViews
import Links
import Logging
import Mailbox
import Memory
import Monitor

/// The monitored side, whole: the memory, the region, the device and the links.
final class Server {
  /// Where remote hosts reach it, ports that were chosen filled in.
  let addresses: [LinkAddress]
  var memoryDescription: String { "\(memory.path): \(memory.format)" }

  private let memory: FileMemory
  private let device: CPUDevice
  private let responders: [any Responder]
  private var region: MailboxRegion?

  init(memory path: String, listen: [LinkAddress], slots: Int) throws {
    let candidates = try MemoryImage.open(path)
    // Which way of reading the file is right, only a kernel found in it tells.
    let kernel = try? Kernel.open(candidates)
    guard let memory = kernel?.memory as? FileMemory ?? candidates.first else { throw ServerError.noMemory(path) }
    self.memory = memory
    hint = kernel?.found.coreInfoAddress

    let paths = listen.compactMap { address in
      if case .sharedMemory(let path) = address { path } else { nil }
    }
    guard paths.count <= 1 else { throw ServerError.manyRegions }
    let region = try MailboxRegion(path: paths.first, layout: RegionLayout(slots: slots))
    let segments = memory.withSegments { segments in
      segments.map { DeviceSegment(pointer: $0.pointer, segment: $0.segment, lost: memory.lost) }
    }
    device = try CPUDevice(region: region, segments: segments, owner: memory)
    if let hint { device.setKernelHint(hint) }
    var responders: [any Responder] = []
    addresses = try listen.map { address in
      guard let responder = try address.serve(region) else { return address }
      responders.append(responder)
      return responder.address
    }
    self.responders = responders
    self.region = region
  }

  private var hint: PhysicalAddress?

  /// Serves until a signal comes, and looks for a kernel as long as none was found: the guest may still be booting.
  func run(until signals: TerminationSignals, logger: Logger) throws {
    if let hint { logger.info("kernel found", metadata: ["note": "\(hint)"]) }
    var pause = 2
    var isWhole = true
    while !signals.wait(seconds: pause) {
      if isWhole, !memory.isWhole {
        isWhole = false
        logger.error(
          "the memory's file became shorter: reads fail from now on; start grassd again once it is whole",
          metadata: ["path": "\(memory.path)"])
      }
      guard hint == nil, isWhole else { continue }
      guard let kernel = try? KernelFinder(memory: memory).find() else {
        pause = min(pause * 2, 30)
        continue
      }
      hint = kernel.coreInfoAddress
      device.setKernelHint(kernel.coreInfoAddress)
      logger.info("kernel found", metadata: ["release": "\(kernel.release)", "note": "\(kernel.coreInfoAddress)"])
    }
  }

  /// Ends the links, then the device, then the region and its file.
  func stop() {
    for responder in responders { responder.stop() }
    device.stop()
    region = nil
  }
}

enum ServerError: Error, CustomStringConvertible {
  case noMemory(String)
  case manyRegions

  var description: String {
    switch self {
    case .noMemory(let path): "\(path): holds no memory; give a RAM file or an image of memory"
    case .manyRegions: "--listen: one shm:// URL at most, since there is one region; several remote hosts can share it"
    }
  }
}
