// One state for both kinds of modules: the functions are those of index.cjs.
import seqsup from "./index.cjs";

export const {
  getMemoryUsage,
  logMemoryUsage,
  isMemoryHigh,
  forceGC,
  waitForMemoryCleanup,
  cleanupBetweenAgents,
  appendToScratchpad,
  readAgentSummary,
} = seqsup;
