/** Memory at one moment, in MB (1024 * 1024 bytes). */
export interface MemoryUsage {
  /** Under seqsup: memory of the agent with all its processes, as its limits count it. Else: RSS of this process. */
  rss: number;
  /** V8's heap in use. Under seqsup: of all Node processes of the agent together, as the next two. */
  heapUsed: number;
  heapTotal: number;
  /** Memory that JavaScript holds outside V8's heap, such as Buffers. */
  external: number;
  /** "seqsup": the figures are of the agent. "process": they are of this process only. */
  source: "seqsup" | "process";
  /** Why the figures are of this process only, or what else is not known; empty if there is nothing to say. */
  why: string;
}

/** Result of a cleanup; sizes in MB. */
export interface Cleanup {
  /** RSS that the processes gave back. */
  freed: number;
  /** Whether a GC was possible. If not, `why` says why. */
  gcAvailable: boolean;
  before: MemoryUsage;
  after: MemoryUsage;
  source: "seqsup" | "process";
  why: string;
}

/** Text that an agent leaves for others. */
export interface Entry {
  /** Short text for later agents, up to 16 KiB. It replaces the last one. */
  summary?: string;
  /** Text of any length. It is appended to details.md. */
  details?: string;
}

/** Return memory now. Under seqsup it waits up to 2 seconds for the supervisor, which answers in milliseconds. */
export function getMemoryUsage(): MemoryUsage;

/** Print one line such as `[Before] RSS: 2456MB, Heap: 1823/2048MB, External: 45MB`, and return its figures. */
export function logMemoryUsage(label: string): MemoryUsage;

/** Return whether more than `mb` MB are in use. Default: 6144. RangeError: no number of MB. */
export function isMemoryHigh(mb?: number): boolean;

/**
 * Collect garbage in this process at once, if it has `gc()`. Under seqsup the agent's other Node processes are asked
 * too, and not waited for. False: this process has no `gc()`, and seqsup does not run it.
 */
export function forceGC(): boolean;

/** Wait until at most `mb` MB are in use; false after `maxWaitMs`. It looks every `everyMs`, and once at least. */
export function waitForMemoryCleanup(mb?: number, maxWaitMs?: number, everyMs?: number): Promise<boolean>;

/** Collect garbage in all Node processes of the agent (without seqsup: in this one), and wait for it up to 15 s. */
export function cleanupBetweenAgents(): Promise<Cleanup>;

/**
 * Store text as `agent`. Its own name, $SEQSUP_AGENT, means the agent's artifacts. Any other name is that of a
 * sub-agent, and means a folder in them. Without seqsup they are in .seqsup-artifacts in the working folder.
 * Errors: a name that is none, a summary above 16 KiB, a folder that cannot be written.
 */
export function appendToScratchpad(agent: string, entry: Entry): Promise<void>;

/** Return the summary of this agent, of a sub-agent, or of an earlier agent of the run; "" if it stored none. */
export function readAgentSummary(agent: string): Promise<string>;
