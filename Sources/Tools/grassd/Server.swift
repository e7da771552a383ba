import CUDA
import Devices
import KernelInfo
import Links
import LinuxKernel
import Logging
import Memory
import Region

/// The monitored side, whole: the memory, the region, the device and the links.
final class Server {
  /// Where remote hosts reach it, ports that were chosen filled in.
  let addresses: [LinkAddress]
  var memoryDescription: String { "\(memory.path): \(memory.format)" }

  private let memory: FileMemory
  private var regionDescription: String?
  private let device: any Device
  private let modules: Modules
  private let responders: [any Responder]
  private var region: SharedRegion?

  init(
    memory path: String, listen: [LinkAddress], layout: RegionLayout, regionInGPU: Bool, device name: DeviceName,
    monitors: [String]
  ) throws {
    let candidates = try MemoryImage.open(path)
    // Which way of reading the file is right, only a kernel found in it tells.
    let kernel = try? Kernel.open(candidates)
    guard let memory = kernel?.memory as? FileMemory ?? candidates.first else { throw ServerError.noMemory(path) }
    self.memory = memory
    hint = kernel?.found.coreInfoAddress
    if case .gpu = name {
      GPU.allowHostMemory(beyondReported: memory.segments.reduce(0) { $0 + $1.count })
    }
    let modules = Modules(paths: monitors, device: name)
    self.modules = modules
    let program = try kernel.flatMap { kernel in
      monitors.isEmpty && name == .cpu ? nil : try modules.program(for: kernel, memory: path)
    }

    let paths = listen.compactMap { address in
      if case .sharedMemory(let path) = address { path } else { nil }
    }
    guard paths.count <= 1 else { throw ServerError.manyRegions }
    let context: GPUContext? = if case .gpu(let number) = name { try GPUContext(GPU.number(number)) } else { nil }
    let region: SharedRegion
    if regionInGPU {
      guard let context else { throw ServerError.regionWithoutGPU }
      guard paths.isEmpty else { throw ServerError.regionWithoutFile }
      let memory = try GPURegionMemory(context, layout: layout)
      regionDescription =
        "the GPU's own memory, " + (memory.exportFailure.map { "not exported: \($0)" } ?? "exported as a dma-buf")
      region = try SharedRegion(layout: layout, in: memory)
    } else {
      region = try SharedRegion(path: paths.first, layout: layout)
    }
    let segments = memory.mappedSegments
    switch name {
    case .cpu:
      device = try CPUDevice(region: region, segments: segments, owner: memory)
      if let program, let kernel { try device.load(program, for: Self.mapping(of: kernel)) }
    case .gpu:
      // Its resident program is compiled with the modules, for a kernel.
      guard let context, let program, let kernel else { throw ServerError.noKernel(path) }
      device = try GPUDevice(
        context, region: region, segments: segments, owner: memory, program: program,
        kernel: Self.mapping(of: kernel))
    }
    needsModules = program == nil && !monitors.isEmpty
    firstModules = program?.names
    if let hint { device.setKernelHint(hint) }
    var responders: [any Responder] = []
    let monitor = device
    addresses = try listen.map { address in
      guard let responder = try address.serve(region, assist: { monitor.assist() }) else { return address }
      responders.append(responder)
      return responder.address
    }
    self.responders = responders
    self.region = region
  }

  private var needsModules: Bool
  /// The names of those that were there from the start.
  private let firstModules: [String]?

  private static func mapping(of kernel: Kernel) -> KernelMapping {
    KernelMapping(kernel.addressSpace, slide: kernel.found.slide)
  }

  /// Takes the modules as their files are now.
  ///
  /// Whatever is wrong with them, those at work stay.
  private func loadModules(logger: Logger) {
    do {
      let kernel = try Kernel(memory: memory, hint: hint)
      let program = try modules.program(for: kernel, memory: memory.path)
      try device.load(program, for: Self.mapping(of: kernel))
      Self.log(program.names, logger)
    } catch {
      logger.error("modules not loaded", metadata: ["reason": "\(error)"])
    }
    needsModules = false
  }

  private static func log(_ modules: [String], _ logger: Logger) {
    logger.info("modules loaded", metadata: ["modules": "\(modules.joined(separator: " "))"])
  }

  private var hint: PhysicalAddress?

  /// Serves until a signal comes, and looks for a kernel as long as none was found: the guest may still be booting.
  func run(until signals: TerminationSignals, logger: Logger) throws {
    logger.info("monitor started", metadata: ["device": "\(device.description)"])
    if let regionDescription { logger.info("region made", metadata: ["in": "\(regionDescription)"]) }
    if let hint { logger.info("kernel found", metadata: ["note": "\(hint)"]) }
    if let firstModules { Self.log(firstModules, logger) }
    var pause = 2
    var isWhole = true
    if needsModules, hint != nil { loadModules(logger: logger) }
    while true {
      switch signals.wait(seconds: pause) {
      case .end: return
      case .reload where hint != nil && !modules.paths.isEmpty: loadModules(logger: logger)
      case .reload: logger.warning("nothing to read again: there is no kernel yet, or no --monitors were given")
      case nil: break
      }
      if let failure = device.failure() { throw failure }
      if isWhole, !memory.isWhole {
        isWhole = false
        logger.error(
          "the memory's file became shorter: reads fail from now on; start grassd again once it is whole",
          metadata: ["path": "\(memory.path)"])
      }
      guard hint == nil, isWhole else { continue }
      guard let kernel = try? Kernel(memory: memory).found else {
        pause = min(pause * 2, 30)
        continue
      }
      hint = kernel.coreInfoAddress
      device.setKernelHint(kernel.coreInfoAddress)
      logger.info("kernel found", metadata: ["release": "\(kernel.release)", "note": "\(kernel.coreInfoAddress)"])
      if needsModules { loadModules(logger: logger) }
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
  case regionWithoutGPU
  case regionWithoutFile
  case noKernel(String)
  case mixedMonitors
  case otherKernel(path: String, String, String)
  case compiler(String)

  var description: String {
    switch self {
    case .noMemory(let path): "\(path): holds no memory; give a RAM file or an image of memory"
    case .manyRegions: "--listen: one shm:// URL at most, since there is one region; several remote hosts can share it"
    case .regionWithoutGPU: "--region gpu: needs --device gpu, in whose memory the region is to lie"
    case .regionWithoutFile:
      "--region gpu: a GPU's memory has no file, which shm:// is reached by; listen at verbs:// or tcp://"
    case .noKernel(let path):
      "\(path): no kernel was found yet, and a GPU's program is made for one; start again when the host has booted"
    case .mixedMonitors: "--monitors: give only sources (.c, .swift), or one program made by `grassd compile`"
    case .otherKernel(let path, let program, let found):
      "\(path) is for kernel \(program), but this host runs \(found); make it again with `grassd compile`"
    case .compiler(let why): "the modules were not compiled: \(why)"
    }
  }
}
