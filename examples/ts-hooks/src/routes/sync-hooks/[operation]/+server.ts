import { syncHooks } from "tidewire/server";
import { handlers } from "../../../handlers.ts";

export const { POST } = syncHooks(handlers);
