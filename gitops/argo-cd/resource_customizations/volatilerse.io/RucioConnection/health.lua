-- The rules of kstatus, in its order: Argo CD, Flux and whoever waits by kstatus say the same.
local hs = { status = "Progressing", message = "The operator has not looked at this generation yet" }
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

-- Argo CD itself never asks of an object that is being deleted; other tools that run this script may.
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Pending deletion"
  if conditions.Deleting ~= nil and conditions.Deleting.message ~= "" then
    hs.message = conditions.Deleting.message
  end
  return hs
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end

if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = conditions.Stalled.message
  return hs
end

if conditions.Ready ~= nil then
  hs.message = conditions.Ready.message
  if conditions.Ready.status == "True" then
    hs.status = "Healthy"
  end
end
return hs
